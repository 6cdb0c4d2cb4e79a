#include "base/cache_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

/* Before the data in the file. */
typedef struct {
    char magic[8];
    uint64_t n_bytes, hash; /* of the data */
} file_header;

void vly_cache_path(const char *name, char path[VLY_CACHE_PATH_BYTES])
{
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    bool xdg = base && base[0] == '/'; /* relative paths are to be ignored: XDG base directories */
    path[0] = '\0';
    if (!xdg && !(home && home[0] == '/')) return;
    int n = snprintf(path, VLY_CACHE_PATH_BYTES, "%s%s/volley/%s", xdg ? base : home,
                     xdg ? "" : "/.cache", name);
    if (n < 0 || n >= VLY_CACHE_PATH_BYTES) path[0] = '\0';
}

static bool is_whole(const file_header *header, const char magic[8], const void *data,
                     size_t n_bytes)
{
    return memcmp(header->magic, magic, sizeof header->magic) == 0 && header->n_bytes == n_bytes &&
           header->hash == XXH3_64bits(data, n_bytes);
}

void *vly_cache_read(const char *path, const char magic[8], size_t max_bytes, size_t *n_bytes)
{
    *n_bytes = 0;
    /* What is no regular file must not make this wait. */
    int fd = path[0] ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    FILE *file = fd < 0 ? NULL : fdopen(fd, "rb");
    if (!file) {
        if (fd >= 0) close(fd);
        return NULL;
    }
    file_header header;
    struct stat st;
    void *data = NULL;
    size_t size = 0;
    if (!fstat(fd, &st) && S_ISREG(st.st_mode) && (size_t)st.st_size > sizeof header &&
        (size_t)st.st_size - sizeof header <= max_bytes) {
        size = (size_t)st.st_size - sizeof header;
        data = malloc(size);
    }
    if (data && (fread(&header, sizeof header, 1, file) != 1 ||
                 fread(data, 1, size, file) != size || !is_whole(&header, magic, data, size))) {
        free(data);
        data = NULL;
    }
    fclose(file);
    if (data) *n_bytes = size;
    return data;
}

/* mkdir -p of the file's folder. */
static bool make_parents(const char *path)
{
    char part[VLY_CACHE_PATH_BYTES];
    snprintf(part, sizeof part, "%s", path);
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(part, 0700) && errno != EEXIST) return false;
        *slash = '/';
    }
    return true;
}

bool vly_cache_write(const char *path, const char magic[8], const void *data, size_t n_bytes)
{
    file_header header = {.n_bytes = n_bytes, .hash = XXH3_64bits(data, n_bytes)};
    memcpy(header.magic, magic, sizeof header.magic);
    char aside[VLY_CACHE_PATH_BYTES + 8];
    errno = ENOENT;
    if (!path[0] || !make_parents(path)) return false;
    snprintf(aside, sizeof aside, "%s.XXXXXX", path);
    int fd = mkstemp(aside);
    if (fd < 0) return false;
    FILE *file = fdopen(fd, "wb");
    if (!file) {
        close(fd);
        unlink(aside);
        return false;
    }
    bool ok =
        fwrite(&header, sizeof header, 1, file) == 1 && fwrite(data, 1, n_bytes, file) == n_bytes;
    ok = fclose(file) == 0 && ok;
    ok = ok && rename(aside, path) == 0;
    if (!ok) unlink(aside);
    return ok;
}

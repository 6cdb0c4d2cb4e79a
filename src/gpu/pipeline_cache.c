#include "gpu/gpu_internal.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define MAX_CACHE_BYTES (256u << 20)

/* Before the driver's own data in the file: drivers check what they wrote only lightly. */
typedef struct {
    char magic[8];
    uint64_t n_bytes, hash; /* of the driver's data */
} file_header;

static const char magic[8] = "vlypipe1";

/* Where the file lies; empty where the environment names no place. One for each device and driver.
 */
static void set_path(vly_gpu *gpu)
{
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    const vly_gpu_info *info = &gpu->caps.info;
    char uuid[2 * VK_UUID_SIZE + 1];
    for (size_t i = 0; i < VK_UUID_SIZE; i++)
        snprintf(uuid + 2 * i, 3, "%02x", info->pipeline_cache_uuid[i]);
    bool xdg = base && base[0] == '/'; /* relative paths are to be ignored: XDG base directories */
    if (!xdg && !(home && home[0] == '/')) return;
    int n =
        snprintf(gpu->cache_path, sizeof gpu->cache_path, "%s%s/volley/pipelines-%x-%x-%x-%s.bin",
                 xdg ? base : home, xdg ? "" : "/.cache", info->vendor_id, info->device_id,
                 info->driver_version, uuid);
    if (n < 0 || (size_t)n >= sizeof gpu->cache_path) gpu->cache_path[0] = '\0';
}

/* Is it this device's data, whole? The layout is VkPipelineCacheHeaderVersionOne. */
static bool is_ours(const vly_gpu *gpu, const file_header *header, const void *data, size_t n_bytes)
{
    VkPipelineCacheHeaderVersionOne of;
    if (memcmp(header->magic, magic, sizeof magic) || header->n_bytes != n_bytes ||
        n_bytes < sizeof of || header->hash != XXH3_64bits(data, n_bytes))
        return false;
    memcpy(&of, data, sizeof of);
    const vly_gpu_info *info = &gpu->caps.info;
    return of.headerSize == sizeof of && of.headerVersion == VK_PIPELINE_CACHE_HEADER_VERSION_ONE &&
           of.vendorID == info->vendor_id && of.deviceID == info->device_id &&
           !memcmp(of.pipelineCacheUUID, info->pipeline_cache_uuid, VK_UUID_SIZE);
}

/* The driver's data in the file, malloc'd; NULL where there is none that can be used. */
static void *read_file(const vly_gpu *gpu, size_t *n_bytes)
{
    FILE *file = gpu->cache_path[0] ? fopen(gpu->cache_path, "rb") : NULL;
    if (!file) return NULL;
    file_header header;
    struct stat st;
    void *data = NULL;
    *n_bytes = 0;
    if (!fstat(fileno(file), &st) && S_ISREG(st.st_mode) && (size_t)st.st_size > sizeof header &&
        (size_t)st.st_size <= MAX_CACHE_BYTES) {
        *n_bytes = (size_t)st.st_size - sizeof header;
        data = malloc(*n_bytes);
    }
    if (data &&
        (fread(&header, sizeof header, 1, file) != 1 ||
         fread(data, 1, *n_bytes, file) != *n_bytes || !is_ours(gpu, &header, data, *n_bytes))) {
        vly_log(VLY_LOG_INFO, "gpu", "ignoring %s: not this device's, or damaged", gpu->cache_path);
        free(data);
        data = NULL;
    }
    fclose(file);
    return data;
}

int gpu_pipeline_cache_load(vly_gpu *gpu, vly_error *err)
{
    set_path(gpu);
    size_t n_bytes = 0;
    void *data = read_file(gpu, &n_bytes);
    VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
                                      .initialDataSize = data ? n_bytes : 0,
                                      .pInitialData = data};
    VkResult result = vkCreatePipelineCache(gpu->device, &info, NULL, &gpu->pipeline_cache);
    if (result && data) {
        info.initialDataSize = 0;
        info.pInitialData = NULL;
        result = vkCreatePipelineCache(gpu->device, &info, NULL, &gpu->pipeline_cache);
    }
    free(data);
    if (result) return gpu_fail_vk(err, result, "vkCreatePipelineCache");
    return 0;
}

/* Makes the directories of the cache file: mkdir -p of its parent. */
static bool make_parents(const char *path)
{
    char part[sizeof((vly_gpu *)0)->cache_path];
    snprintf(part, sizeof part, "%s", path);
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(part, 0700) && errno != EEXIST) return false;
        *slash = '/';
    }
    return true;
}

/* Written aside and renamed, so that another process sees the old file or the whole new one. */
static bool write_file(const char *path, const void *data, size_t n_bytes)
{
    file_header header = {.n_bytes = n_bytes, .hash = XXH3_64bits(data, n_bytes)};
    memcpy(header.magic, magic, sizeof magic);
    char aside[sizeof((vly_gpu *)0)->cache_path + 8];
    snprintf(aside, sizeof aside, "%s.XXXXXX", path);
    if (!make_parents(path)) return false;
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

void gpu_pipeline_cache_save(vly_gpu *gpu)
{
    if (!gpu->cache_dirty || !gpu->cache_path[0] || gpu->failed) return;
    size_t n_bytes = 0;
    if (vkGetPipelineCacheData(gpu->device, gpu->pipeline_cache, &n_bytes, NULL) || n_bytes == 0 ||
        n_bytes > MAX_CACHE_BYTES - sizeof(file_header))
        return;
    void *data = malloc(n_bytes);
    if (data && !vkGetPipelineCacheData(gpu->device, gpu->pipeline_cache, &n_bytes, data) &&
        !write_file(gpu->cache_path, data, n_bytes))
        vly_log(VLY_LOG_INFO, "gpu", "cannot write %s: %s", gpu->cache_path, strerror(errno));
    free(data);
}

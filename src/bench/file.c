/* volley bench file: a model of random weights as a file, for programs that need one. */
#include "bench/bench.h"

#include "cli/cli.h"
#include "gguf/synthetic.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int write_all(int fd, const char *data, size_t n)
{
    while (n > 0) {
        ssize_t written = write(fd, data, n);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return -1;
        data += written;
        n -= (size_t)written;
    }
    return 0;
}

static int write_file(const char *name, const char *path, vly_error *err)
{
    void *data;
    size_t n;
    int rc = vly_synthetic_map(name, &data, &n, err);
    if (rc) return rc;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool failed = fd < 0 || write_all(fd, data, n) != 0;
    if (failed) rc = vly_fail(err, VLY_E_IO, "cannot write %s: %s", path, strerror(errno));
    if (fd >= 0 && close(fd) != 0 && rc == 0)
        rc = vly_fail(err, VLY_E_IO, "cannot write %s: %s", path, strerror(errno));
    munmap(data, n);
    return rc;
}

int vly_bench_file(int argc, char **argv)
{
    char name[256];
    vly_error err;
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        printf(
            "usage: volley bench file SHAPE:FORMAT FILE\n\n"
            "Writes a model of random weights as a GGUF file that other programs read too: what\n"
            "--synthetic SHAPE:FORMAT is to the other benches.\n");
        return 0;
    }
    if (argc > 1 && argv[1][0] == '-')
        return vly_cli_usage_error("bench file", "unknown option '%s'", argv[1]);
    if (argc != 3) return vly_cli_usage_error("bench file", "expected SHAPE:FORMAT and a FILE");
    int n = snprintf(name, sizeof name, "%s%s", VLY_SYNTHETIC_PREFIX, argv[1]);
    if (n >= (int)sizeof name)
        return vly_cli_usage_error("bench file", "'%s' is longer than any SHAPE:FORMAT", argv[1]);
    return write_file(name, argv[2], &err) ? vly_cli_fail(&err) : 0;
}

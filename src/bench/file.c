/* volley bench file: a model of random weights as a file, for programs that need one. */
#include "bench/bench.h"

#include "cli/cli.h"
#include "cli/option_table.h"
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

typedef struct {
    const char *model, *path;
} options;

static const vly_option_row rows[] = {
    {1, 'h', "help", NULL, NULL, &vly_option_help, 0, 0, 0, "show this help"},
};
static const vly_option_operand operands[] = {{"SHAPE:FORMAT", offsetof(options, model)},
                                              {"FILE", offsetof(options, path)}};

int vly_bench_file(int argc, char **argv)
{
    static char command[] = "bench file";
    options o = {0};
    const vly_option_table table = {
        .rows = rows,
        .n_rows = sizeof rows / sizeof *rows,
        .operands = operands,
        .n_operands = sizeof operands / sizeof *operands,
        .command = 1,
        .intro = "usage: volley bench file SHAPE:FORMAT FILE\n\n"
                 "Writes a model of random weights as a GGUF file that other programs read too:\n"
                 "what --synthetic SHAPE:FORMAT is to the other benches.\n\n",
        .default_values = &(options){0}};
    argv[0] = command;
    int status = vly_option_table_parse(&table, argc, argv, &o);
    if (status) return status < 0 ? 0 : status;
    char name[256];
    vly_error err;
    int n = snprintf(name, sizeof name, "%s%s", VLY_SYNTHETIC_PREFIX, o.model);
    if (n >= (int)sizeof name)
        return vly_cli_usage_error(command, "'%s' is longer than any SHAPE:FORMAT", o.model);
    return write_file(name, o.path, &err) ? vly_cli_fail(&err) : 0;
}

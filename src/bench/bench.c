/* volley bench: chooses the bench. */
#include "bench/bench.h"

#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*function)(int argc, char **argv);
    const char *summary;
} benches[] = {
#define VLY_BENCH(name, function, summary) {#name, function, summary},
#include "bench/benches.def"
#undef VLY_BENCH
};
#define N_BENCHES (sizeof benches / sizeof *benches)

int vly_cli_bench(int argc, char **argv)
{
    if (argc < 2) return vly_cli_usage_error(argv[0], "a bench is missing");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        printf("usage: volley bench BENCH [OPTION...]\n\n"
               "Measures on this device. Each bench explains its options with --help.\n\n"
               "Benches:\n");
        for (size_t i = 0; i < N_BENCHES; i++)
            printf("  %-10s %s\n", benches[i].name, benches[i].summary);
        return 0;
    }
    for (size_t i = 0; i < N_BENCHES; i++)
        if (strcmp(argv[1], benches[i].name) == 0) return benches[i].function(argc - 1, argv + 1);
    return vly_cli_usage_error(argv[0], "unknown %s '%s'", argv[1][0] == '-' ? "option" : "bench",
                               argv[1]);
}

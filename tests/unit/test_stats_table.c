/* The table of --stats: whatever it has to tell, it fits a terminal. */
#include "cli/stats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const vly_engine_info info = {.device_name = "llvmpipe (LLVM 15.0.6, 256 bits)",
                                     .target_name = "t",
                                     .draft_name = "d",
                                     .target_bytes = UINT64_C(400) << 30,
                                     .draft_bytes = UINT64_C(400) << 30,
                                     .n_ctx = 1048576,
                                     .n_draft_vocab = 262144,
                                     .n_draft_mapped = 262144};

/* What is printed for these statistics; for the caller to free. */
static char *print(const vly_stats *stats)
{
    const vly_cli_generation g = {.stats = *stats, .finish = VLY_FINISH_CANCELLED};
    FILE *file = tmpfile();
    assert_non_null(file);
    fflush(stderr);
    int old = dup(STDERR_FILENO);
    assert_true(old >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
    vly_cli_print_stats(&info, &g, true, UINT64_MAX);
    fflush(stderr);
    assert_true(dup2(old, STDERR_FILENO) >= 0);
    close(old);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long len = ftell(file);
    assert_true(len > 0);
    rewind(file);
    char *text = calloc(1, (size_t)len + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, (size_t)len, file), len);
    fclose(file);
    return text;
}

static void check_width(const char *text)
{
    size_t n = 0;
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1, n++) {
        int len = (int)strcspn(line, "\n");
        if (len > 80) fail_msg("expected at most 80 columns, got %d: %.*s", len, len, line);
        assert_int_equal(line[len], '\n');
    }
    assert_true(n > 10);
}

/* As many of each as fit: a day, and a count of every kind with ten digits. */
static void the_largest_figures_fit_a_terminal(void **state)
{
    (void)state;
    vly_stats s;
    memset(&s, 0xff, sizeof s);
    s.stop_index = 0;
    s.prompt_ms = s.generate_ms = s.queue_ms = s.draft_ms = s.verify_ms = s.map_ms = s.wait_ms =
        s.idle_ms = s.plain_ms = 86400e3;
    s.kv_target_bytes = s.kv_draft_bytes = UINT64_C(400) << 30;
    s.generated_bytes = UINT32_MAX;
    char *text = print(&s);
    check_width(text);
    assert_non_null(strstr(text, " 16: 4294967295,"));
    assert_non_null(strstr(text, " probes: 4294967295\n"));
    assert_non_null(strstr(text, " more: 4294967295\n"));
    free(text);
}

static void nothing_at_all_is_told_without_a_division(void **state)
{
    (void)state;
    char *text = print(&(vly_stats){0});
    check_width(text);
    assert_null(strstr(text, "nan"));
    assert_null(strstr(text, "inf"));
    assert_non_null(strstr(text, "text           0 tokens"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_largest_figures_fit_a_terminal),
        cmocka_unit_test(nothing_at_all_is_told_without_a_division),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

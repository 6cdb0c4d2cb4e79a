/* The shipped target in parts: the program sees one file and computes the same. */
#include "tests/support/gguf_copy.h"
#include "tests/support/program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define TARGET "models/stories15M-q8_0.gguf"

static char folder[] = "/tmp/volley-test-XXXXXX";

static void the_parts_compute_as_the_whole_does(void **state)
{
    (void)state;
    char command[512];
    int status;
    char *whole = program_output("logits -m " TARGET " -p 'Once upon a time' --top 20", &status);
    assert_int_equal(status, 0);
    for (unsigned no = 1; no <= 3; no += 2) {
        snprintf(command, sizeof command,
                 "logits -m %s/m-%05u-of-00003.gguf -p 'Once upon a time' --top 20", folder, no);
        char *split = program_output(command, &status);
        assert_string_equal(split, whole);
        assert_int_equal(status, 0);
        free(split);
    }
    free(whole);
}

static void inspect_shows_the_parts(void **state)
{
    (void)state;
    char command[512];
    int status;
    snprintf(command, sizeof command, "inspect %s/m-00002-of-00003.gguf", folder);
    char *listing = program_output(command, &status);
    assert_int_equal(status, 0);
    assert_non_null(strstr(listing, "m-00003-of-00003.gguf: part 3 of 3\n"));
    assert_non_null(strstr(listing, "bytes, part 3\n"));
    assert_non_null(strstr(listing, "runs this model"));
    free(listing);
}

static void a_missing_part_is_named(void **state)
{
    (void)state;
    char command[512];
    int status;
    snprintf(command, sizeof command, "%s/m-00002-of-00003.gguf", folder);
    assert_int_equal(unlink(command), 0);
    snprintf(command, sizeof command, "run -m %s/m-00001-of-00003.gguf -p Once", folder);
    char *message = program_output(command, &status);
    assert_int_equal(status, 1);
    assert_non_null(strstr(message, "expected all 3 parts"));
    assert_non_null(strstr(message, "missing: 00002\n"));
    free(message);
}

static int write_parts(void **state)
{
    (void)state;
    vly_gguf *gguf;
    vly_error err;
    char stem[64];
    if (!mkdtemp(folder) || vly_gguf_open(TARGET, &gguf, &err)) return -1;
    snprintf(stem, sizeof stem, "%s/m", folder);
    gguf_copy_split(gguf, stem, 3);
    vly_gguf_close(gguf);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_parts_compute_as_the_whole_does),
        cmocka_unit_test(inspect_shows_the_parts),
        cmocka_unit_test(a_missing_part_is_named),
    };
    return cmocka_run_group_tests(tests, write_parts, remove_folder);
}

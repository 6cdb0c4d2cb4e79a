/* Files of the cache: what is written comes back, and what is damaged counts as absent. */
#include "base/cache_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const char magic[8] = "testing1";
static char folder[64], path[VLY_CACHE_PATH_BYTES];

static int setup(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/volley-cache-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    setenv("XDG_CACHE_HOME", folder, 1);
    vly_cache_path("a file", path);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char parent[96];
    unlink(path);
    rmdir(path);
    snprintf(parent, sizeof parent, "%s/volley", folder);
    rmdir(parent);
    return rmdir(folder);
}

static char *read_text(size_t max_bytes)
{
    size_t n = 99;
    char *data = vly_cache_read(path, magic, max_bytes, &n);
    if (!data) assert_int_equal(n, 0);
    return data;
}

static void test_round_trip(void **state)
{
    (void)state;
    assert_null(read_text(100));
    assert_true(vly_cache_write(path, magic, "some text", 10));
    assert_true(vly_cache_write(path, magic, "other text", 11));
    char *text = read_text(11);
    assert_non_null(text);
    assert_string_equal(text, "other text");
    free(text);
    assert_null(read_text(10)); /* larger than anything that was written on purpose */
    size_t n;
    assert_null(vly_cache_read(path, "testing2", 100, &n));
}

/* Each byte changed, each length: never a crash, never other data. */
static void test_damaged(void **state)
{
    (void)state;
    assert_true(vly_cache_write(path, magic, "some text", 10));
    uint8_t whole[64];
    FILE *file = fopen(path, "rb");
    size_t n = fread(whole, 1, sizeof whole, file);
    fclose(file);
    assert_true(n > 10 && n < sizeof whole);
    for (size_t i = 0; i < 2 * n; i++) {
        uint8_t damaged[64];
        memcpy(damaged, whole, n);
        if (i < n) damaged[i] ^= 0x10;
        file = fopen(path, "wb");
        fwrite(damaged, 1, i < n ? n : i - n, file);
        fclose(file);
        assert_null(read_text(100));
    }
}

static void test_what_is_no_file(void **state)
{
    (void)state;
    assert_true(vly_cache_write(path, magic, "some text", 10));
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_null(read_text(100)); /* and does not wait for a writer */
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_null(read_text(100));
    assert_false(vly_cache_write(path, magic, "some text", 10));
}

static void test_places(void **state)
{
    (void)state;
    char other[VLY_CACHE_PATH_BYTES], home[128];
    assert_non_null(strstr(path, "/volley/a file"));
    setenv("XDG_CACHE_HOME", "relative", 1);
    snprintf(home, sizeof home, "%s/home", folder);
    setenv("HOME", home, 1);
    vly_cache_path("x", other);
    assert_non_null(strstr(other, "/home/.cache/volley/x"));
    unsetenv("HOME");
    vly_cache_path("x", other);
    assert_string_equal(other, "");
    size_t n;
    assert_null(vly_cache_read(other, magic, 100, &n));
    assert_false(vly_cache_write(other, magic, "x", 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_no_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_places, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Split files: opened by any part they are one file; parts that are missing or of another file are
 * named. */
#include "gguf/gguf.h"
#include "tests/support/gguf_writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define N_PARTS 3

static char folder[] = "/tmp/volley-test-XXXXXX";

static const char *path_of(const char *name)
{
    static char path[4][256];
    static int i;
    i = (i + 1) % 4;
    snprintf(path[i], sizeof path[i], "%s/%s", folder, name);
    return path[i];
}

/* "NAME-00001-of-00003.gguf", parts counted from 0. */
static const char *part_path(const char *name, unsigned no)
{
    char file[64];
    snprintf(file, sizeof file, "%s-%05u-of-%05u.gguf", name, no + 1, N_PARTS);
    return path_of(file);
}

typedef struct {
    unsigned no, count, n_tensors; /* as the keys have them */
    const char *tensor;
} part;

static void write_part(const char *path, part p)
{
    static const float weights[32] = {1};
    gguf_writer *w = gguf_writer_create(3);
    gguf_writer_unsigned(w, "split.no", VLY_GGUF_U16, p.no);
    gguf_writer_u32(w, "split.count", p.count);
    gguf_writer_signed(w, "split.tensors.count", VLY_GGUF_I32, (int)p.n_tensors);
    if (p.no == 0) gguf_writer_string(w, "general.architecture", "first");
    gguf_writer_tensor(w, p.tensor, 1, (uint64_t[]){32}, 0, weights, sizeof weights);
    if (p.no == 2) gguf_writer_tensor(w, "last", 1, (uint64_t[]){32}, 0, weights, 128);
    assert_int_equal(gguf_writer_save(w, path), 0);
    gguf_writer_destroy(w);
}

/* A sound file of 3 parts with the tensors a; b; c and last. */
static void write_all(const char *name)
{
    static const char *const tensors[] = {"a", "b", "c"};
    for (unsigned no = 0; no < N_PARTS; no++)
        write_part(part_path(name, no), (part){no, N_PARTS, 4, tensors[no]});
}

/* Opening `path` fails with `code` and a message that has `text` and `other`. */
static void assert_refused(const char *path, int code, const char *text, const char *other)
{
    vly_gguf *gguf;
    vly_error err = {0};
    assert_int_equal(vly_gguf_open(path, &gguf, &err), code);
    assert_null(gguf);
    assert_int_equal(err.code, code);
    if (!strstr(err.message, text) || !strstr(err.message, other))
        fail_msg("no '%s' or '%s' in: %s", text, other, err.message);
}

static void any_part_opens_the_whole(void **state)
{
    (void)state;
    write_all("sound");
    for (unsigned no = 0; no < N_PARTS; no++) {
        vly_gguf *gguf;
        vly_error err = {0};
        if (vly_gguf_open(part_path("sound", no), &gguf, &err)) fail_msg("%s", err.message);
        assert_string_equal(vly_gguf_path(gguf), part_path("sound", 0));
        assert_int_equal(vly_gguf_n_parts(gguf), N_PARTS);
        assert_string_equal(vly_gguf_part_path(gguf, 2), part_path("sound", 2));
        assert_non_null(vly_gguf_find(gguf, "general.architecture"));
        assert_int_equal(vly_gguf_n_tensors(gguf), 4);
        static const char *const names[] = {"a", "b", "c", "last"};
        for (uint32_t i = 0; i < 4; i++) {
            const vly_gguf_tensor *t = vly_gguf_tensor_find(gguf, names[i]);
            assert_non_null(t);
            assert_ptr_equal(t, vly_gguf_tensor_at(gguf, i));
            assert_int_equal(t->part, i < 2 ? i : 2);
            float weight;
            memcpy(&weight, t->data, sizeof weight);
            assert_true(weight == 1);
        }
        assert_true(vly_gguf_file_bytes(gguf) > 4 * 128);
        vly_gguf_close(gguf);
    }
}

static void a_file_that_is_not_split_has_one_part(void **state)
{
    (void)state;
    write_part(path_of("whole.gguf"), (part){0, 1, 1, "a"});
    vly_gguf *gguf;
    vly_error err = {0};
    if (vly_gguf_open(path_of("whole.gguf"), &gguf, &err)) fail_msg("%s", err.message);
    assert_int_equal(vly_gguf_n_parts(gguf), 1);
    assert_string_equal(vly_gguf_part_path(gguf, 0), path_of("whole.gguf"));
    vly_gguf_close(gguf);
}

static void missing_parts_are_named(void **state)
{
    (void)state;
    write_all("gone");
    unlink(part_path("gone", 1));
    assert_refused(part_path("gone", 0), VLY_E_NOT_FOUND, "all 3 parts", "missing: 00002");
    unlink(part_path("gone", 0));
    assert_refused(part_path("gone", 2), VLY_E_NOT_FOUND, part_path("gone", 2),
                   "missing: 00001, 00002");
    assert_refused(part_path("gone", 0), VLY_E_NOT_FOUND, part_path("gone", 0), "No such file");
}

static void a_long_list_of_missing_parts_is_cut(void **state)
{
    (void)state;
    const char *path = path_of("many-00001-of-99999.gguf");
    write_part(path, (part){0, 99999, 5, "a"});
    assert_refused(path, VLY_E_NOT_FOUND, "missing: 00002, 00003", "00009, ...");
    write_part(path, (part){0, 100000, 5, "a"});
    assert_refused(path, VLY_E_FORMAT, "split.count", "100000");
    write_part(path, (part){7, 7, 5, "a"});
    assert_refused(path, VLY_E_FORMAT, "split.no", "7 and 7");
}

static void other_names_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"odd.gguf", "odd-00002-of-00003.gguf",
                                        "odd-00001-of-00002.gguf", "odd-00001-of-00003.GGUF"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        write_part(path_of(names[i]), (part){0, N_PARTS, 4, "a"});
        assert_refused(path_of(names[i]), VLY_E_FORMAT, path_of(names[i]), "-00001-of-00003.gguf");
    }
}

static void parts_of_other_files_are_named(void **state)
{
    (void)state;
    static const struct {
        part part; /* in place of the second */
        const char *why;
    } cases[] = {
        {{0, N_PARTS, 4, "b"}, "got part 1 of 3 with 4"},
        {{2, N_PARTS, 4, "b"}, "got part 3 of 3 with 4"},
        {{1, 2, 4, "b"}, "got part 2 of 2 with 4"},
        {{0, 1, 1, "b"}, "got part 1 of 1 with 1"},
        {{1, N_PARTS, 5, "b"}, "got part 2 of 3 with 5"},
        {{1, N_PARTS, 4, "a"}, "tensor 'a' is there twice"},
    };
    write_all("mixed");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_part(part_path("mixed", 1), cases[i].part);
        assert_refused(part_path("mixed", 0), VLY_E_FORMAT, part_path("mixed", 1), cases[i].why);
        if (cases[i].part.no == 1 && cases[i].part.count == N_PARTS) continue;
        assert_refused(part_path("mixed", 2), VLY_E_FORMAT, part_path("mixed", 1), cases[i].why);
    }
    /* Each part agrees with the others, but tensors are missing. */
    static const char *const tensors[] = {"a", "b", "c"};
    for (unsigned no = 0; no < N_PARTS; no++)
        write_part(part_path("mixed", no), (part){no, N_PARTS, 7, tensors[no]});
    assert_refused(part_path("mixed", 1), VLY_E_FORMAT, "split.tensors.count", "the 4 tensors");
}

static void a_broken_part_is_named(void **state)
{
    (void)state;
    write_all("broken");
    assert_int_equal(truncate(part_path("broken", 1), 150), 0);
    assert_refused(part_path("broken", 0), VLY_E_FORMAT, part_path("broken", 1), "expected");
    assert_refused(part_path("broken", 2), VLY_E_FORMAT, part_path("broken", 1), "expected");
    FILE *file = fopen(part_path("broken", 1), "w");
    assert_non_null(file);
    fclose(file);
    assert_refused(part_path("broken", 0), VLY_E_FORMAT, part_path("broken", 1), "empty");
    gguf_writer *w = gguf_writer_create(3);
    gguf_writer_string(w, "split.count", "three");
    assert_int_equal(gguf_writer_save(w, part_path("broken", 1)), 0);
    gguf_writer_destroy(w);
    assert_refused(part_path("broken", 0), VLY_E_FORMAT, "split.count", "string");
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
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
        cmocka_unit_test(any_part_opens_the_whole),
        cmocka_unit_test(a_file_that_is_not_split_has_one_part),
        cmocka_unit_test(missing_parts_are_named),
        cmocka_unit_test(a_long_list_of_missing_parts_is_cut),
        cmocka_unit_test(other_names_are_refused),
        cmocka_unit_test(parts_of_other_files_are_named),
        cmocka_unit_test(a_broken_part_is_named),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

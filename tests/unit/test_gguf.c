/* The reader: what sound files hold comes out, and everything else is refused with a reason. */
#include "gguf/gguf.h"
#include "tests/support/data.h"
#include "tests/support/gguf_touch.h"
#include "tests/support/gguf_writer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define BYTES(text) ((vly_bytes){text, sizeof text - 1})

static void assert_bytes(vly_bytes bytes, const char *expected)
{
    assert_int_equal(bytes.len, strlen(expected));
    assert_memory_equal(bytes.data, expected, bytes.len);
}

/* Takes over `writer`; *image is the memory behind the object. */
static vly_gguf *open_written(gguf_writer *writer, uint8_t **image)
{
    size_t n;
    *image = gguf_writer_image(writer, &n);
    gguf_writer_destroy(writer);
    vly_gguf *gguf;
    vly_error err = {0};
    if (vly_gguf_open_memory(*image, n, &gguf, &err)) fail_msg("%s", err.message);
    return gguf;
}

static void close_written(vly_gguf *gguf, uint8_t *image)
{
    vly_gguf_close(gguf);
    free(image);
}

/* Opening fails with `code`, and the message has every text of the NULL-terminated list. */
static void assert_refused(const void *image, size_t n, int code, ...)
{
    vly_gguf *gguf;
    vly_error err = {0};
    void *exact =
        malloc(n ? n : 1); /* so that a read behind the end is one behind the allocation */
    assert_non_null(exact);
    memcpy(exact, image, n);
    assert_int_equal(vly_gguf_open_memory(exact, n, &gguf, &err), code);
    free(exact);
    assert_null(gguf);
    assert_int_equal(err.code, code);
    va_list texts;
    va_start(texts, code);
    for (const char *text; (text = va_arg(texts, const char *));)
        if (!strstr(err.message, text)) fail_msg("no '%s' in: %s", text, err.message);
    va_end(texts);
}

/* The same for what `writer`, which it takes over, has written. */
#define assert_written_refused(writer, code, ...)                                                  \
    do {                                                                                           \
        gguf_writer *refused = writer;                                                             \
        size_t n_written;                                                                          \
        uint8_t *written = gguf_writer_image(refused, &n_written);                                 \
        assert_refused(written, n_written, code, __VA_ARGS__, (const char *)NULL);                 \
        free(written);                                                                             \
        gguf_writer_destroy(refused);                                                              \
    } while (0)

/* One of everything. */
static gguf_writer *write_all(uint32_t version)
{
    gguf_writer *w = gguf_writer_create(version);
    gguf_writer_alignment(w, 64);
    gguf_writer_unsigned(w, "u8", VLY_GGUF_U8, 200);
    gguf_writer_signed(w, "i8", VLY_GGUF_I8, -100);
    gguf_writer_unsigned(w, "u16", VLY_GGUF_U16, 60000);
    gguf_writer_signed(w, "i16", VLY_GGUF_I16, -30000);
    gguf_writer_u32(w, "u32", 4000000000u);
    gguf_writer_signed(w, "i32", VLY_GGUF_I32, -2000000000);
    gguf_writer_f32(w, "f32", 1e-5f);
    gguf_writer_bool(w, "bool", true);
    gguf_writer_string(w, "string", "text");
    gguf_writer_unsigned(w, "u64", VLY_GGUF_U64, UINT64_MAX);
    gguf_writer_signed(w, "i64", VLY_GGUF_I64, INT64_MIN);
    gguf_writer_float(w, "f64", VLY_GGUF_F64, 0.1);
    gguf_writer_numbers(w, "u8s", VLY_GGUF_U8, (uint8_t[]){1, 255}, 2);
    gguf_writer_numbers(w, "i8s", VLY_GGUF_I8, (int8_t[]){1, -1}, 2);
    gguf_writer_numbers(w, "u16s", VLY_GGUF_U16, (uint16_t[]){1, 65535}, 2);
    gguf_writer_numbers(w, "i16s", VLY_GGUF_I16, (int16_t[]){1, -1}, 2);
    gguf_writer_numbers(w, "u32s", VLY_GGUF_U32, (uint32_t[]){1, UINT32_MAX}, 2);
    gguf_writer_numbers(w, "i32s", VLY_GGUF_I32, (int32_t[]){1, -1}, 2);
    gguf_writer_numbers(w, "i64s", VLY_GGUF_I64, (int64_t[]){1, INT64_MIN}, 2);
    gguf_writer_numbers(w, "f32s", VLY_GGUF_F32, (float[]){1.5f, -2}, 2);
    gguf_writer_numbers(w, "f64s", VLY_GGUF_F64, (double[]){0.1, -2}, 2);
    gguf_writer_numbers(w, "bools", VLY_GGUF_BOOL, (uint8_t[]){0, 1}, 2);
    gguf_writer_strings(w, "strings", (vly_bytes[]){BYTES("a"), BYTES(""), BYTES("b\0c")}, 3);
    gguf_writer_strings(w, "none", NULL, 0);
    uint8_t data[272];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)i;
    gguf_writer_tensor(w, "vector", 1, (uint64_t[]){5}, 0, data, 20);
    gguf_writer_tensor(w, "matrix", 2, (uint64_t[]){64, 4}, 8, data, 272);
    gguf_writer_tensor(w, "t", 4, (uint64_t[]){32, 1, 2, 3}, 2, data, 108);
    return w;
}

static void scalars_come_out(void **state)
{
    uint8_t *image;
    vly_gguf *g = open_written(write_all((uint32_t)(uintptr_t)*state), &image);
    assert_int_equal(vly_gguf_version(g), (uintptr_t)*state);
    assert_string_equal(vly_gguf_path(g), "memory");
    assert_int_equal(vly_gguf_n_entries(g), 25);
    assert_bytes(vly_gguf_entry_at(g, 1)->key, "u8");
    assert_int_equal(vly_gguf_find(g, "u8")->value.u, 200);
    assert_int_equal(vly_gguf_find(g, "i8")->value.i, -100);
    assert_int_equal(vly_gguf_find(g, "u16")->value.u, 60000);
    assert_int_equal(vly_gguf_find(g, "i16")->value.i, -30000);
    assert_int_equal(vly_gguf_find(g, "u32")->value.u, 4000000000u);
    assert_int_equal(vly_gguf_find(g, "i32")->value.i, -2000000000);
    assert_true(vly_gguf_find(g, "f32")->value.f == (double)1e-5f);
    assert_int_equal(vly_gguf_find(g, "bool")->value.u, 1);
    assert_bytes(vly_gguf_find(g, "string")->value.string, "text");
    assert_true(vly_gguf_find(g, "u64")->value.u == UINT64_MAX);
    assert_true(vly_gguf_find(g, "i64")->value.i == INT64_MIN);
    assert_true(vly_gguf_find(g, "f64")->value.f == 0.1);
    assert_null(vly_gguf_find(g, "u"));
    assert_null(vly_gguf_find(g, ""));
    close_written(g, image);
}

static void arrays_come_out(void **state)
{
    uint8_t *image;
    vly_gguf *g = open_written(write_all((uint32_t)(uintptr_t)*state), &image);
    static const struct {
        const char *key;
        vly_gguf_type type;
        int64_t second;
    } ints[] = {{"u8s", VLY_GGUF_U8, 255},          {"i8s", VLY_GGUF_I8, -1},
                {"u16s", VLY_GGUF_U16, 65535},      {"i16s", VLY_GGUF_I16, -1},
                {"u32s", VLY_GGUF_U32, UINT32_MAX}, {"i32s", VLY_GGUF_I32, -1},
                {"i64s", VLY_GGUF_I64, INT64_MIN}};
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++) {
        const vly_gguf_entry *array = vly_gguf_find(g, ints[i].key);
        assert_int_equal(array->type, VLY_GGUF_ARRAY);
        assert_int_equal(array->item_type, ints[i].type);
        assert_int_equal(array->count, 2);
        assert_int_equal(vly_gguf_int_at(array, 0), 1);
        assert_true(vly_gguf_int_at(array, 1) == ints[i].second);
    }
    assert_int_equal(vly_gguf_int_at(vly_gguf_find(g, "bools"), 0), 0);
    assert_int_equal(vly_gguf_int_at(vly_gguf_find(g, "bools"), 1), 1);
    assert_true(vly_gguf_float_at(vly_gguf_find(g, "f32s"), 0) == 1.5);
    assert_true(vly_gguf_float_at(vly_gguf_find(g, "f64s"), 0) == 0.1);
    const vly_gguf_entry *strings = vly_gguf_find(g, "strings");
    assert_int_equal(strings->count, 3);
    assert_bytes(vly_gguf_string_at(g, strings, 0), "a");
    assert_bytes(vly_gguf_string_at(g, strings, 1), "");
    assert_int_equal(vly_gguf_string_at(g, strings, 2).len, 3);
    assert_memory_equal(vly_gguf_string_at(g, strings, 2).data, "b\0c", 3);
    assert_int_equal(vly_gguf_find(g, "none")->count, 0);
    close_written(g, image);
}

static void tensors_come_out(void **state)
{
    uint8_t *image;
    vly_gguf *g = open_written(write_all((uint32_t)(uintptr_t)*state), &image);
    assert_int_equal(vly_gguf_n_tensors(g), 3);
    assert_bytes(vly_gguf_tensor_at(g, 0)->name, "vector");
    assert_int_equal(vly_gguf_tensor_at(g, 0)->n_bytes, 20);
    const vly_gguf_tensor *matrix = vly_gguf_tensor_find(g, "matrix");
    assert_ptr_equal(matrix, vly_gguf_tensor_at(g, 1));
    assert_int_equal(matrix->n_dims, 2);
    assert_memory_equal(matrix->dims, ((uint64_t[]){64, 4, 1, 1}), sizeof matrix->dims);
    assert_string_equal(matrix->format->name, "q8_0");
    assert_int_equal(matrix->n_bytes, 2 * 34 * 4);
    assert_int_equal(matrix->offset % 64, 0);
    assert_ptr_equal(matrix->data, image + matrix->offset);
    for (size_t i = 0; i < matrix->n_bytes; i++) assert_int_equal(matrix->data[i], (uint8_t)i);
    const vly_gguf_tensor *t = vly_gguf_tensor_find(g, "t");
    assert_memory_equal(t->dims, ((uint64_t[]){32, 1, 2, 3}), sizeof t->dims);
    assert_int_equal(t->n_bytes, 18 * 6);
    assert_int_equal(t->offset + t->n_bytes, vly_gguf_file_bytes(g));
    assert_null(vly_gguf_tensor_find(g, "matri"));
    close_written(g, image);
}

static void typed_reads_check_type_and_range(void **state)
{
    (void)state;
    uint8_t *image;
    vly_gguf *g = open_written(write_all(3), &image);
    vly_error err = {0};
    uint32_t u = 0;
    float f = 0;
    bool b = false;
    vly_bytes s = {0};
    assert_int_equal(vly_gguf_u32(g, "u8", &u, &err), 0);
    assert_int_equal(u, 200);
    assert_int_equal(vly_gguf_u32_or(g, "u32", 1, &u, &err), 0);
    assert_int_equal(u, 4000000000u);
    assert_int_equal(vly_gguf_u32_or(g, "missing", 7, &u, &err), 0);
    assert_int_equal(u, 7);
    assert_int_equal(vly_gguf_u32(g, "missing", &u, &err), VLY_E_FORMAT);
    assert_non_null(strstr(err.message, "'missing' is missing"));
    assert_int_equal(vly_gguf_u32(g, "i8", &u, &err), VLY_E_FORMAT);
    assert_non_null(strstr(err.message, "-100"));
    assert_int_equal(vly_gguf_u32_or(g, "u64", 1, &u, &err), VLY_E_FORMAT);
    assert_non_null(strstr(err.message, "18446744073709551615"));
    assert_int_equal(vly_gguf_u32(g, "bool", &u, &err), VLY_E_FORMAT);
    assert_int_equal(vly_gguf_u32(g, "f32", &u, &err), VLY_E_FORMAT);
    assert_int_equal(vly_gguf_u32(g, "u8s", &u, &err), VLY_E_FORMAT);
    assert_non_null(strstr(err.message, "key 'u8s': expected an integer"));
    assert_int_equal(u, 7);
    assert_int_equal(vly_gguf_f32(g, "f32", &f, &err), 0);
    assert_true(f == 1e-5f);
    assert_int_equal(vly_gguf_f32_or(g, "f64", 1, &f, &err), 0);
    assert_true(f == 0.1f);
    assert_int_equal(vly_gguf_f32_or(g, "missing", 2, &f, &err), 0);
    assert_true(f == 2);
    assert_int_equal(vly_gguf_f32(g, "missing", &f, &err), VLY_E_FORMAT);
    assert_int_equal(vly_gguf_f32(g, "u32", &f, &err), VLY_E_FORMAT);
    assert_int_equal(vly_gguf_bool_or(g, "bool", false, &b, &err), 0);
    assert_true(b);
    assert_int_equal(vly_gguf_bool_or(g, "missing", false, &b, &err), 0);
    assert_false(b);
    assert_int_equal(vly_gguf_bool_or(g, "u8", false, &b, &err), VLY_E_FORMAT);
    assert_int_equal(vly_gguf_string(g, "string", &s, &err), 0);
    assert_bytes(s, "text");
    assert_int_equal(vly_gguf_string_or(g, "missing", "other", &s, &err), 0);
    assert_bytes(s, "other");
    assert_int_equal(vly_gguf_string(g, "missing", &s, &err), VLY_E_FORMAT);
    assert_int_equal(vly_gguf_string_or(g, "strings", "", &s, &err), VLY_E_FORMAT);
    close_written(g, image);
}

static void a_float_must_be_finite(void **state)
{
    (void)state;
    gguf_writer *w = gguf_writer_create(3);
    gguf_writer_f32(w, "nan", NAN);
    gguf_writer_float(w, "big", VLY_GGUF_F64, 1e300);
    uint8_t *image;
    vly_gguf *g = open_written(w, &image);
    float f = 5;
    assert_int_equal(vly_gguf_f32(g, "nan", &f, NULL), VLY_E_FORMAT);
    assert_int_equal(vly_gguf_f32_or(g, "big", 1, &f, NULL), VLY_E_FORMAT);
    assert_true(f == 5);
    close_written(g, image);
}

static void many_names_are_all_found(void **state)
{
    (void)state;
    gguf_writer *w = gguf_writer_create(3);
    char name[32];
    for (uint32_t i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "key.%u", i);
        gguf_writer_u32(w, name, i);
        gguf_writer_tensor(w, name, 1, (uint64_t[]){1}, 24, "x", 1);
    }
    uint8_t *image;
    vly_gguf *g = open_written(w, &image);
    for (uint32_t i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "key.%u", i);
        assert_int_equal(vly_gguf_find(g, name)->value.u, i);
        assert_ptr_equal(vly_gguf_tensor_find(g, name), vly_gguf_tensor_at(g, i));
    }
    assert_null(vly_gguf_find(g, "key.3000"));
    close_written(g, image);
}

static void a_file_without_anything_is_valid(void **state)
{
    (void)state;
    uint8_t *image;
    vly_gguf *g = open_written(gguf_writer_create(3), &image);
    assert_int_equal(vly_gguf_n_entries(g) + vly_gguf_n_tensors(g), 0);
    assert_null(vly_gguf_find(g, "a"));
    assert_null(vly_gguf_tensor_find(g, "a"));
    close_written(g, image);
}

static void wrong_headers_are_refused(void **state)
{
    (void)state;
    assert_refused("", 0, VLY_E_FORMAT, "magic", NULL);
    assert_refused("GGU", 3, VLY_E_FORMAT, "magic", "ends at byte 3", NULL);
    assert_refused("PK\3\4....", 8, VLY_E_FORMAT, "expected magic 'GGUF', got 'PK\\x03\\x04'",
                   "PyTorch", NULL);
    assert_refused("\100\0\0\0\0\0\0\0{\"a\"", 12, VLY_E_FORMAT, "not a GGUF", "safetensors", NULL);
    assert_refused("version https://git-lfs.github.com", 34, VLY_E_FORMAT, "Git LFS", NULL);
    assert_refused("<!DOCTYPE html>", 15, VLY_E_FORMAT, "web page", NULL);
    assert_refused("ggjt", 4, VLY_E_FORMAT, "got 'ggjt': not a GGUF file", NULL);
    assert_refused("GGUF\1\0\0\0", 8, VLY_E_UNSUPPORTED, "version 1", NULL);
    assert_refused("GGUF\4\0\0\0", 8, VLY_E_UNSUPPORTED, "version 4", NULL);
    assert_refused("GGUF\0\0\0\0", 8, VLY_E_UNSUPPORTED, "version 0", NULL);
    assert_refused("GGUF\0\0\0\3", 8, VLY_E_UNSUPPORTED, "big-endian", NULL);
    assert_refused("GGUF\3\0\0\0", 8, VLY_E_FORMAT, "tensor count", NULL);
    static const char many[] = "GGUF\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x80";
    assert_refused(many, 24, VLY_E_FORMAT, "metadata count", "9223372036854775808", NULL);
    static const char tensors[] = "GGUF\3\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0";
    assert_refused(tensors, 24, VLY_E_FORMAT, "tensor count", "18446744073709551615", NULL);
}

/* Adds an entry "hostile" of `value`, a string literal, and expects its refusal. */
#define assert_value_refused(type, value, code, ...)                                               \
    do {                                                                                           \
        gguf_writer *hostile = gguf_writer_create(3);                                              \
        gguf_writer_raw(hostile, "hostile", type, value, sizeof value - 1);                        \
        assert_written_refused(hostile, code, "memory: key 'hostile': ", __VA_ARGS__);             \
    } while (0)

static void wrong_values_are_refused(void **state)
{
    (void)state;
    assert_value_refused(13, "", VLY_E_FORMAT, "value type: expected 0 to 12, got 13");
    assert_value_refused(UINT32_MAX, "", VLY_E_FORMAT, "value type", "4294967295");
    assert_value_refused(VLY_GGUF_U64, "1234567", VLY_E_FORMAT, "value: expected 8 bytes");
    assert_value_refused(VLY_GGUF_BOOL, "\2", VLY_E_FORMAT, "bool: expected 0 or 1, got 2");
    assert_value_refused(VLY_GGUF_STRING, "\5\0\0\0\0\0\0\0text", VLY_E_FORMAT,
                         "string: expected 5 bytes");
    assert_value_refused(VLY_GGUF_STRING, "\xff\xff\xff\xff\xff\xff\xff\xfftext", VLY_E_FORMAT,
                         "string: expected 18446744073709551615 bytes");
#define ITEMS_2_63 "\0\0\0\0\0\0\0\x80"
    assert_value_refused(VLY_GGUF_ARRAY, "\x0d\0\0\0\1\0\0\0\0\0\0\0", VLY_E_FORMAT,
                         "array item type", "13");
    assert_value_refused(VLY_GGUF_ARRAY, "\x09\0\0\0\1\0\0\0\0\0\0\0", VLY_E_UNSUPPORTED,
                         "array of arrays");
    assert_value_refused(VLY_GGUF_ARRAY, "\0\0\0\0" ITEMS_2_63, VLY_E_FORMAT, "array length");
    assert_value_refused(VLY_GGUF_ARRAY, "\x08\0\0\0" ITEMS_2_63, VLY_E_FORMAT, "array length",
                         "9223372036854775808");
    /* 2^61 items of 8 bytes: their bytes wrap to 0. */
    assert_value_refused(VLY_GGUF_ARRAY, "\x0a\0\0\0\0\0\0\0\0\0\0\x20", VLY_E_FORMAT,
                         "array length");
    assert_value_refused(VLY_GGUF_ARRAY, "\7\0\0\0\2\0\0\0\0\0\0\0\1\3", VLY_E_FORMAT, "bool");
    /* Two strings fit by their lengths, but the first takes the bytes of the second. */
    assert_value_refused(VLY_GGUF_ARRAY, "\x08\0\0\0\2\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0text1234567",
                         VLY_E_FORMAT, "array item 1 of 2");
    gguf_writer *w = gguf_writer_create(3);
    gguf_writer_u32(w, "", 1);
    assert_written_refused(w, VLY_E_FORMAT, "metadata entry 0 of 1", "key", "got 0");
    w = gguf_writer_create(3);
    gguf_writer_u32(w, "a\x1b[31m", 1);
    gguf_writer_u32(w, "b", 1);
    gguf_writer_u32(w, "a\x1b[31m", 2);
    assert_written_refused(w, VLY_E_FORMAT, "key 'a\\x1b[31m' is there twice");
}

static const uint8_t zeros[64];

/* A file of one tensor, "t", of that shape, format and offset and of 64 bytes. */
static gguf_writer *write_tensor(uint32_t n_dims, const uint64_t *dims, uint32_t ggml_id,
                                 uint64_t offset)
{
    gguf_writer *w = gguf_writer_create(3);
    if (offset == 0)
        gguf_writer_tensor(w, "t", n_dims, dims, ggml_id, zeros, sizeof zeros);
    else
        gguf_writer_tensor_at(w, "t", n_dims, dims, ggml_id, offset);
    return w;
}

static void wrong_tensors_are_refused(void **state)
{
    (void)state;
    static const uint64_t dims[5] = {16, 1, 1, 1, 1};
    assert_written_refused(write_tensor(0, dims, 0, 0), VLY_E_FORMAT, "tensor 't'", "got 0");
    assert_written_refused(write_tensor(5, dims, 0, 0), VLY_E_FORMAT, "number of dims", "got 5");
    assert_written_refused(write_tensor(1, dims, 777, 0), VLY_E_UNSUPPORTED, "tensor 't'",
                           "777 is not a known one; the formats that work are f32, f16");
    assert_written_refused(write_tensor(1, dims, 8, 0), VLY_E_FORMAT, "multiple of 32", "q8_0",
                           "got 16");
    assert_written_refused(write_tensor(2, (uint64_t[]){16, 0}, 0, 0), VLY_E_FORMAT, "dims[1]");
    assert_written_refused(write_tensor(2, (uint64_t[]){1ull << 32, 1ull << 32}, 0, 0),
                           VLY_E_FORMAT, "dims[1]", "4294967296");
    assert_written_refused(write_tensor(3, (uint64_t[]){16, 1ull << 62, 4}, 0, 0), VLY_E_FORMAT,
                           "dims[1]");
    assert_written_refused(write_tensor(1, (uint64_t[]){1ull << 60}, 27, 0), VLY_E_FORMAT,
                           "tensor 't': expected 9223372036854775808 bytes", "truncated");
    assert_written_refused(write_tensor(1, (uint64_t[]){17}, 0, 0), VLY_E_FORMAT,
                           "tensor 't': expected 68 bytes", "truncated");
    assert_written_refused(write_tensor(1, dims, 0, 33), VLY_E_FORMAT, "multiple of 32", "got 33");
    assert_written_refused(write_tensor(1, dims, 0, UINT64_MAX - 31), VLY_E_FORMAT, "truncated");
    assert_written_refused(write_tensor(1, dims, 0, 1ull << 63), VLY_E_FORMAT, "truncated");

    gguf_writer *w = write_tensor(1, dims, 0, 0);
    gguf_writer_tensor_at(w, "", 1, dims, 0, 0);
    assert_written_refused(w, VLY_E_FORMAT, "tensor 1 of 2", "name", "got 0");
    w = write_tensor(1, dims, 0, 0);
    gguf_writer_tensor(w, "t", 1, dims, 0, zeros, sizeof zeros);
    assert_written_refused(w, VLY_E_FORMAT, "tensor 't' is there twice");
    w = write_tensor(1, dims, 0, 0);
    gguf_writer_tensor_at(w, "inside", 1, (uint64_t[]){8}, 0, 32);
    assert_written_refused(w, VLY_E_FORMAT, "tensor 'inside': offset", "tensor 't'");
    w = write_tensor(1, dims, 0, 0);
    gguf_writer_tensor_at(w, "same", 1, dims, 0, 0);
    assert_written_refused(w, VLY_E_FORMAT, "offset");
}

static void wrong_alignments_are_refused(void **state)
{
    (void)state;
    static const uint32_t wrong[] = {0, 3, 48, UINT32_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        gguf_writer *w = gguf_writer_create(3);
        gguf_writer_u32(w, "general.alignment", wrong[i]);
        assert_written_refused(w, VLY_E_FORMAT, "'general.alignment': expected a power of two");
    }
    gguf_writer *w = gguf_writer_create(3);
    gguf_writer_unsigned(w, "general.alignment", VLY_GGUF_U64, 32);
    assert_written_refused(w, VLY_E_FORMAT, "'general.alignment': expected u32, got u64");
    /* Data that would begin at 2^31 in a small file. */
    w = write_tensor(1, (uint64_t[]){1}, 0, 0);
    gguf_writer_u32(w, "general.alignment", 1u << 31);
    assert_written_refused(w, VLY_E_FORMAT, "tensor 't'", "truncated");
}

static void long_names_are_cut_in_messages(void **state)
{
    (void)state;
    char name[500];
    memset(name, 7, sizeof name - 1);
    name[sizeof name - 1] = '\0';
    gguf_writer *w = gguf_writer_create(3);
    gguf_writer_raw(w, name, 99, "", 0);
    assert_written_refused(w, VLY_E_FORMAT, "\\x07...': value type");
}

static void no_shortened_file_is_read(void **state)
{
    gguf_writer *w = write_all((uint32_t)(uintptr_t)*state);
    size_t n;
    uint8_t *image = gguf_writer_image(w, &n);
    gguf_writer_destroy(w);
    for (size_t i = 0; i < n; i++) assert_refused(image, i, VLY_E_FORMAT, "memory: ", NULL);
    free(image);
}

static void no_changed_byte_leads_outside(void **state)
{
    gguf_writer *w = write_all((uint32_t)(uintptr_t)*state);
    size_t n, n_valid = 0;
    uint8_t *image = gguf_writer_image(w, &n);
    gguf_writer_destroy(w);
    static const uint8_t flips[] = {0x01, 0x08, 0x80, 0xff};
    for (size_t i = 0; i < n * sizeof flips; i++) {
        uint8_t *byte = &image[i / sizeof flips], kept = *byte;
        *byte ^= flips[i % sizeof flips];
        vly_gguf *gguf;
        vly_error err = {0};
        if (vly_gguf_open_memory(image, n, &gguf, &err) == 0) {
            gguf_touch(gguf);
            n_valid++;
        } else {
            assert_true(err.code < 0 && err.message[0]);
        }
        vly_gguf_close(gguf);
        *byte = kept;
    }
    /* Changed values and data are sound; most changes of the structure are not. */
    assert_in_range(n_valid, 1, n * sizeof flips - 1);
    free(image);
}

/* vly_gguf_open(path) fails with `code` and a message with the path and `text`. */
static void assert_open_fails(const char *path, int code, const char *text)
{
    vly_gguf *gguf;
    vly_error err = {0};
    assert_int_equal(vly_gguf_open(path, &gguf, &err), code);
    assert_null(gguf);
    assert_non_null(strstr(err.message, path));
    if (!strstr(err.message, text)) fail_msg("no '%s' in: %s", text, err.message);
}

static void files_are_opened_or_refused(void **state)
{
    (void)state;
    char folder[] = "/tmp/volley-test-XXXXXX", path[64], other[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/file.gguf", folder);
    snprintf(other, sizeof other, "%s/file.gguf/file", folder);
    assert_open_fails(path, VLY_E_NOT_FOUND, "No such file");
    assert_open_fails(folder, VLY_E_IO, "directory");

    gguf_writer *w = write_all(3);
    assert_int_equal(gguf_writer_save(w, path), 0);
    gguf_writer_destroy(w);
    vly_gguf *gguf;
    vly_error err = {0};
    assert_int_equal(vly_gguf_open(path, &gguf, &err), 0);
    assert_string_equal(vly_gguf_path(gguf), path);
    gguf_touch(gguf);
    uint32_t u;
    assert_int_equal(vly_gguf_u32(gguf, "string", &u, &err), VLY_E_FORMAT);
    assert_non_null(strstr(err.message, path));
    vly_gguf_close(gguf);
    assert_open_fails(other, VLY_E_NOT_FOUND, "Not a directory");
    if (geteuid() != 0) { /* root may read everything */
        assert_int_equal(chmod(path, 0), 0);
        assert_open_fails(path, VLY_E_IO, "Permission denied");
    }
    assert_int_equal(unlink(path), 0);

    FILE *empty = fopen(path, "wb");
    assert_non_null(empty);
    fclose(empty);
    assert_open_fails(path, VLY_E_FORMAT, "empty");
    assert_int_equal(unlink(path), 0);

    assert_int_equal(mkfifo(path, 0600), 0);
    assert_open_fails(path, VLY_E_IO, "pipe"); /* and does not wait for a writer */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    vly_gguf_close(NULL);
}

static void a_vocabulary_alone_is_a_file(void **state)
{
    (void)state;
    char path[4096];
    vly_gguf *gguf;
    vly_error err = {0};
    test_data_path("tokenizers/mistral-v0.3.gguf", path, sizeof path);
    if (vly_gguf_open(path, &gguf, &err)) fail_msg("%s", err.message);
    assert_int_equal(vly_gguf_n_tensors(gguf), 0);
    const vly_gguf_entry *tokens = vly_gguf_find(gguf, "tokenizer.ggml.tokens");
    assert_int_equal(tokens->count, 32768);
    assert_bytes(vly_gguf_string_at(gguf, tokens, 1), "<s>");
    gguf_touch(gguf);
    vly_gguf_close(gguf);
}

#define OF_VERSION(test, version) #test " (v" #version ")", test, NULL, NULL, (void *)version

int main(void)
{
    const struct CMUnitTest tests[] = {
        {OF_VERSION(scalars_come_out, 2)},
        {OF_VERSION(scalars_come_out, 3)},
        {OF_VERSION(arrays_come_out, 2)},
        {OF_VERSION(arrays_come_out, 3)},
        {OF_VERSION(tensors_come_out, 2)},
        {OF_VERSION(tensors_come_out, 3)},
        {OF_VERSION(no_shortened_file_is_read, 2)},
        {OF_VERSION(no_shortened_file_is_read, 3)},
        {OF_VERSION(no_changed_byte_leads_outside, 2)},
        {OF_VERSION(no_changed_byte_leads_outside, 3)},
        cmocka_unit_test(typed_reads_check_type_and_range),
        cmocka_unit_test(a_float_must_be_finite),
        cmocka_unit_test(many_names_are_all_found),
        cmocka_unit_test(a_file_without_anything_is_valid),
        cmocka_unit_test(wrong_headers_are_refused),
        cmocka_unit_test(wrong_values_are_refused),
        cmocka_unit_test(wrong_tensors_are_refused),
        cmocka_unit_test(wrong_alignments_are_refused),
        cmocka_unit_test(long_names_are_cut_in_messages),
        cmocka_unit_test(files_are_opened_or_refused),
        cmocka_unit_test(a_vocabulary_alone_is_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

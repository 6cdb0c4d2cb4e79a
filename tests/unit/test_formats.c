/* The format table, the conversions, and the values of real ggml blocks. */
#include "gguf/formats.h"
#include "tests/support/data.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Decodes base64 in place of its text; returns the number of bytes. */
static size_t decode_base64(char *text)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0;
    uint32_t held = 0, n_held = 0;
    for (const char *p = text; *p && *p != '='; p++) {
        const char *digit = strchr(digits, *p);
        assert_non_null(digit);
        held = held << 6 | (uint32_t)(digit - digits);
        n_held += 6;
        if (n_held < 8) continue;
        n_held -= 8;
        text[n++] = (char)(held >> n_held);
    }
    return n;
}

static const vly_format *by_name(const char *name)
{
    for (int id = 0; id < VLY_N_FORMATS; id++)
        if (strcasecmp(vly_format_by_id((vly_format_id)id)->name, name) == 0)
            return vly_format_by_id((vly_format_id)id);
    return NULL;
}

/* Checks one format of the golden file; true where Volley computes with it. */
static bool check_golden(const cJSON *golden)
{
    const vly_format *format = by_name(golden->string);
    assert_non_null(format);
    uint32_t n = (uint32_t)cJSON_GetObjectItem(golden, "n")->valueint;
    assert_int_equal(format->ggml_id, cJSON_GetObjectItem(golden, "ggml_type")->valueint);
    assert_int_equal(format->block_weights, cJSON_GetObjectItem(golden, "block_weights")->valueint);
    assert_int_equal(format->block_bytes, cJSON_GetObjectItem(golden, "block_bytes")->valueint);
    if (!format->dequantize) return false;

    char *raw = cJSON_GetObjectItem(golden, "raw")->valuestring;
    char *expected = cJSON_GetObjectItem(golden, "f32")->valuestring;
    size_t n_blocks = n / format->block_weights;
    assert_int_equal(decode_base64(raw), n_blocks * format->block_bytes);
    assert_int_equal(decode_base64(expected), n * sizeof(float));
    /* Blocks at an odd address, in an allocation of just their size: neither may matter. */
    char *blocks = malloc(n_blocks * format->block_bytes + 1);
    float *values = malloc(n * sizeof(float));
    assert_true(blocks && values);
    memcpy(blocks + 1, raw, n_blocks * format->block_bytes);
    format->dequantize(blocks + 1, n_blocks, values);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t want;
        memcpy(&want, expected + 4 * i, sizeof want);
        if (bits_of(values[i]) != want)
            fail_msg("%s, weight %u: expected %a, got %a", format->name, i, (double)from_bits(want),
                     (double)values[i]);
    }
    free(values);
    free(blocks);
    return true;
}

static void golden_blocks_have_their_values(void **state)
{
    (void)state;
    char *text = test_data_read("golden/quants.json", NULL);
    cJSON *root = cJSON_Parse(text);
    free(text);
    assert_non_null(root);
    int n_checked = 0, n_computable = 0;
    const cJSON *golden;
    cJSON_ArrayForEach(golden, cJSON_GetObjectItem(root, "types")) n_checked +=
        check_golden(golden);
    cJSON_Delete(root);
    for (int id = 0; id < VLY_N_FORMATS; id++)
        n_computable += vly_format_by_id((vly_format_id)id)->dequantize != NULL;
    /* Of those that Volley computes with, only f32 is not in the file. */
    assert_int_equal(n_checked, n_computable - 1);
}

static void f32_blocks_are_copied(void **state)
{
    (void)state;
    const float values[] = {0, -0.0f, 1.5f, INFINITY, 0x1p-149f};
    float out[5];
    vly_format_by_id(VLY_FORMAT_f32)->dequantize(values, 5, out);
    assert_memory_equal(values, out, sizeof values);
}

static void the_table_is_consistent(void **state)
{
    (void)state;
    for (int id = 0; id < VLY_N_FORMATS; id++) {
        const vly_format *format = vly_format_by_id((vly_format_id)id);
        assert_int_equal(format->id, id);
        assert_ptr_equal(vly_format_by_ggml_id(format->ggml_id), format);
        assert_true(format->block_weights > 0 && format->block_bytes > 0);
        /* Messages name exactly those that can be computed with. */
        char needle[32] = ", ", names[512] = ", ";
        strcat(strcat(needle, format->name), ",");
        strcat(strcat(names, vly_format_computable_names()), ",");
        assert_true((strstr(names, needle) != NULL) == (format->dequantize != NULL));
    }
    assert_null(vly_format_by_ggml_id(4)); /* q4_2, which ggml removed */
    assert_null(vly_format_by_ggml_id(UINT32_MAX));
    assert_string_equal(vly_format_by_ggml_id(8)->name, "q8_0");
}

/* The value of half bits by the definition, in double. */
static double half_value(uint32_t bits)
{
    int exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
    double magnitude = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return bits & 0x8000 ? -magnitude : magnitude;
}

static void every_half_has_its_value(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        float value = vly_f16_to_f32((uint16_t)bits);
        assert_int_equal(bits_of(value) >> 31, bits >> 15);
        if ((bits & 0x7c00) != 0x7c00) {
            assert_true((double)value == half_value(bits));
            assert_int_equal(vly_f32_to_f16(value), bits);
        } else if (bits & 0x3ff) {
            assert_true(isnan(value));
            uint16_t back = vly_f32_to_f16(value);
            assert_true((back & 0x7c00) == 0x7c00 && (back & 0x3ff) != 0);
        } else {
            assert_true(isinf(value));
            assert_int_equal(vly_f32_to_f16(value), bits);
        }
    }
}

/* Between neighbours a < b, floats up to the middle round to a and beyond to b; the middle itself
 * goes to the even one. As rounding is monotonic, the edges decide for all floats. */
static void floats_round_to_the_nearest_even_half(void **state)
{
    (void)state;
    for (uint32_t sign = 0; sign <= 0x8000; sign += 0x8000) {
        for (uint32_t a = sign; a < sign + 0x7c00; a++) {
            uint32_t b = a + 1;
            /* Above the greatest half the next step, 2^16, stands for infinity. */
            double upper = b == sign + 0x7c00 ? (sign ? -65536.0 : 65536.0) : half_value(b);
            float middle = (float)((half_value(a) + upper) / 2); /* exact */
            assert_int_equal(vly_f32_to_f16(middle), a & 1 ? b : a);
            assert_int_equal(vly_f32_to_f16(from_bits(bits_of(middle) - 1)), a);
            assert_int_equal(vly_f32_to_f16(from_bits(bits_of(middle) + 1)), b);
        }
    }
}

static void special_floats_become_special_halves(void **state)
{
    (void)state;
    assert_int_equal(vly_f32_to_f16(3e38f), 0x7c00);
    assert_int_equal(vly_f32_to_f16(-3e38f), 0xfc00);
    assert_int_equal(vly_f32_to_f16(0x1p-149f), 0);
    assert_int_equal(vly_f32_to_f16(-0x1p-149f), 0x8000);
    /* A NaN whose payload is all in the bits that go must not become infinity. */
    assert_int_equal(vly_f32_to_f16(from_bits(0x7f800001)), 0x7e00);
    assert_int_equal(vly_f32_to_f16(from_bits(0xffc00000)), 0xfe00);
}

static void bfloats_are_the_upper_half_of_a_float(void **state)
{
    (void)state;
    assert_true(vly_bf16_to_f32(0x3f80) == 1.0f);
    assert_true(vly_bf16_to_f32(0xc2f7) == -123.5f);
    assert_int_equal(bits_of(vly_bf16_to_f32(0x0001)), 0x00010000); /* subnormal */
    assert_true(isinf(vly_bf16_to_f32(0x7f80)));
    assert_true(isnan(vly_bf16_to_f32(0x7fc0)));
}

static bool values_finite(const vly_format *format, const uint8_t *blocks, size_t n_blocks)
{
    float *values = malloc(n_blocks * format->block_weights * sizeof *values);
    assert_non_null(values);
    format->dequantize(blocks, n_blocks, values);
    bool finite = true;
    for (size_t i = 0; i < n_blocks * format->block_weights; i++)
        finite = finite && isfinite(values[i]);
    free(values);
    return finite;
}

/* Wherever in a block the bits of a special float are written: what is found is what the weights
 * then are. */
static void broken_weights_are_found(void **state)
{
    (void)state;
    enum { N_BLOCKS = 5 };
    static const uint16_t patterns[] = {0x7c00, 0xfc00, 0x7e01, 0x7bff, 0x7f80,
                                        0xff80, 0x7fc0, 0x7f7f, 0x0000};
    for (int id = 0; id < VLY_N_FORMATS; id++) {
        const vly_format *format = vly_format_by_id((vly_format_id)id);
        if (!format->dequantize) continue;
        size_t n_bytes = N_BLOCKS * (size_t)format->block_bytes, n_broken = 0;
        uint8_t *blocks = malloc(n_bytes); /* exactly: nothing behind may be read */
        assert_non_null(blocks);
        for (size_t at = 0; at + 2 <= n_bytes; at += 2) {
            for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
                memset(blocks, 0x11, n_bytes);
                memcpy(blocks + at, &patterns[i], 2);
                bool finite = values_finite(format, blocks, N_BLOCKS);
                if (vly_format_finite(format, blocks, N_BLOCKS) != finite)
                    fail_msg("%s: %04x at byte %zu", format->name, patterns[i], at);
                n_broken += !finite;
            }
        }
        assert_true(n_broken >= N_BLOCKS);
        free(blocks);
    }
}

static bool fits(const vly_format *format, const void *blocks, size_t n_blocks)
{
    return vly_range_is_f16(vly_format_range(format, blocks, n_blocks));
}

/* What f16 is said to have it has: no weight of such blocks is too large. */
static void ranges_hold(void **state)
{
    (void)state;
    enum { N_BLOCKS = 2 };
    for (int id = 0; id < VLY_N_FORMATS; id++) {
        const vly_format *format = vly_format_by_id((vly_format_id)id);
        if (!format->dequantize || id == VLY_FORMAT_f16) continue;
        size_t n_bytes = N_BLOCKS * (size_t)format->block_bytes, n_fit = 0, n_not = 0;
        size_t n = N_BLOCKS * (size_t)format->block_weights;
        uint8_t *blocks = malloc(n_bytes);
        float *values = malloc(n * sizeof *values);
        assert_true(blocks && values);
        for (uint32_t high = 0; high < 0x80; high++) {
            /* All codes and factors as large as they can be; any scale. */
            memset(blocks, 0xff, n_bytes);
            for (size_t i = 0; i < N_BLOCKS; i++)
                for (uint32_t j = 0; j < format->n_scales; j++)
                    memcpy(blocks + i * format->block_bytes + format->scale_at + 2 * j,
                           (const uint8_t[]){0xff, (uint8_t)(high & 0x7b)}, 2);
            if (format->n_scales == 0) memset(blocks, (int)high, n_bytes);
            bool small = true;
            format->dequantize(blocks, N_BLOCKS, values);
            for (size_t i = 0; i < n; i++) small = small && fabsf(values[i]) <= 65504.0f;
            if (fits(format, blocks, N_BLOCKS) && !small)
                fail_msg("%s: f16 does not have %g", format->name, (double)values[0]);
            *(fits(format, blocks, N_BLOCKS) ? &n_fit : &n_not) += 1;
        }
        assert_true(n_fit > 10 && n_not > 0);
        free(blocks);
        free(values);
    }
}

static void ranges_of_floats(void **state)
{
    (void)state;
    static const struct {
        float values[3];
        bool fit;
    } cases[] = {
        {{0, 0, 0}, true},           {{0.02f, -0.5f, 3}, true}, {{32767, -32767, 0}, true},
        {{0, -70000, 1}, false},     {{1e30f, 0, 0}, false},    {{1, 1e-30f, 0}, true},
        {{1e-5f, -1e-5f, 0}, false}, {{0, 0, 1e-20f}, false},   {{0, 1e-5f, 0.01f}, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint16_t halves[3];
        for (int j = 0; j < 3; j++) halves[j] = (uint16_t)(bits_of(cases[i].values[j]) >> 16);
        bool f32 = fits(vly_format_by_id(VLY_FORMAT_f32), cases[i].values, 3);
        bool bf16 = fits(vly_format_by_id(VLY_FORMAT_bf16), halves, 3);
        if (f32 != cases[i].fit || bf16 != cases[i].fit)
            fail_msg("case %zu: f32 %d, bf16 %d, expected %d", i, f32, bf16, cases[i].fit);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_blocks_have_their_values),
        cmocka_unit_test(f32_blocks_are_copied),
        cmocka_unit_test(the_table_is_consistent),
        cmocka_unit_test(every_half_has_its_value),
        cmocka_unit_test(floats_round_to_the_nearest_even_half),
        cmocka_unit_test(special_floats_become_special_halves),
        cmocka_unit_test(bfloats_are_the_upper_half_of_a_float),
        cmocka_unit_test(broken_weights_are_found),
        cmocka_unit_test(ranges_hold),
        cmocka_unit_test(ranges_of_floats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Architectures: the table, descriptions in JSON, and what RoPE scalings make of frequencies. */
#include "model/arch.h"
#include "model/rope.h"
#include "tests/support/gguf_writer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- the table ---- */

static void families_have_their_blocks(void **state)
{
    (void)state;
    char name[VLY_FULL_NAME_CHARS];
    const vly_arch *llama = vly_arch_find("llama"), *qwen2 = vly_arch_find("qwen2");
    const vly_arch *qwen3 = vly_arch_find("qwen3");
    assert_true(llama && qwen2 && qwen3 && vly_arch_find("mistral"));
    assert_null(vly_arch_find("lama"));
    assert_int_equal(llama->rope, VLY_ROPE_PAIRS);
    assert_int_equal(qwen2->rope, VLY_ROPE_HALVES);
    assert_int_equal(qwen2->bias[VLY_TENSOR_ATTN_K], VLY_NEED_REQUIRED);
    assert_int_equal(qwen2->bias[VLY_TENSOR_ATTN_OUTPUT], VLY_NEED_NEVER);
    assert_int_equal(qwen3->qk_norm, VLY_QK_NORM_HEAD);
    assert_int_equal(qwen2->qk_norm, VLY_QK_NORM_NONE);
    assert_int_equal(llama->norms, VLY_NORMS_PRE);
    assert_string_equal(vly_arch_tensor_name(llama, VLY_TENSOR_FFN_DOWN, 1023, ".weight", name),
                        "blk.1023.ffn_down.weight");
    assert_string_equal(vly_arch_tensor_name(qwen2, VLY_TENSOR_ATTN_Q, 0, ".bias", name),
                        "blk.0.attn_q.bias");
    assert_string_equal(vly_arch_tensor_name(llama, VLY_TENSOR_ROPE_FREQS, 7, ".weight", name),
                        "rope_freqs.weight");
}

/* ---- descriptions ---- */

static int parse(const char *json, vly_arch *out, vly_error *err)
{
    return vly_arch_parse("FILE", json, strlen(json), out, err);
}

static void a_short_description_is_a_plain_model(void **state)
{
    (void)state;
    vly_arch arch;
    vly_error err;
    if (parse(" {\"name\":\"parrot\",\"rope\":\"pairs\"} ", &arch, &err))
        fail_msg("%s", err.message);
    assert_string_equal(arch.name, "parrot");
    assert_int_equal(arch.rope, VLY_ROPE_PAIRS);
    assert_int_equal(arch.head, VLY_HEAD_EITHER);
    assert_int_equal(arch.norms, VLY_NORMS_PRE);
    assert_true(arch.qk_norm == VLY_QK_NORM_NONE && arch.window == 0 && arch.n_pattern == 0);
    for (vly_tensor_id id = 0; id < VLY_N_TENSORS; id++) {
        assert_int_equal(arch.bias[id], VLY_NEED_NEVER);
        assert_string_equal(arch.tensor[id], "");
    }
}

static void a_full_description_is_taken(void **state)
{
    (void)state;
    vly_arch arch;
    vly_error err;
    const char *json = "{\"rope\":\"halves\",\"qk_norm\":\"all\",\"norms\":\"both\",\"head\":"
                       "\"tied\",\"name\":\"p\","
                       "\"biases\":{\"attn_q\":\"required\",\"ffn_up\":\"optional\"},"
                       "\"window\":{\"layers\":[true,false,true],\"size\":64},"
                       "\"tensors\":{\"attn_q\":\"h{}/q\",\"output_norm\":\"final\"}}";
    if (parse(json, &arch, &err)) fail_msg("%s", err.message);
    char name[VLY_FULL_NAME_CHARS];
    assert_string_equal(arch.name, "p");
    assert_int_equal(arch.rope, VLY_ROPE_HALVES);
    assert_int_equal(arch.head, VLY_HEAD_TIED);
    assert_int_equal(arch.qk_norm, VLY_QK_NORM_ALL);
    assert_int_equal(arch.norms, VLY_NORMS_BOTH);
    assert_int_equal(arch.bias[VLY_TENSOR_ATTN_Q], VLY_NEED_REQUIRED);
    assert_int_equal(arch.bias[VLY_TENSOR_FFN_UP], VLY_NEED_OPTIONAL);
    assert_int_equal(arch.bias[VLY_TENSOR_ATTN_K], VLY_NEED_NEVER);
    assert_int_equal(arch.window, 64);
    assert_int_equal(arch.n_pattern, 3);
    assert_true(arch.pattern[0] && !arch.pattern[1] && arch.pattern[2]);
    assert_string_equal(vly_arch_tensor_name(&arch, VLY_TENSOR_ATTN_Q, 12, ".bias", name),
                        "h12/q.bias");
    assert_string_equal(vly_arch_tensor_name(&arch, VLY_TENSOR_OUTPUT_NORM, 0, ".weight", name),
                        "final.weight");
}

#define GOOD   "\"name\":\"p\",\"rope\":\"pairs\""
#define LONG32 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

/* Every fault is told with its key. */
static void faults_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *json, *message;
    } cases[] = {
        {"", "FILE: expected one JSON value"},
        {"{" GOOD "}}", "FILE: expected one JSON value"},
        {"[]", "expected an object, got an array"},
        {"null", "expected an object, got null"},
        {"{\"rope\":\"pairs\"}", "key 'name' is missing"},
        {"{\"name\":\"p\"}", "key 'rope' is missing"},
        {"{" GOOD ",\"ropes\":1}", "unknown key 'ropes'; expected one of: name rope"},
        {"{" GOOD ",\"name\":\"q\"}", "repeated key 'name'"},
        {"{\"name\":1,\"rope\":\"pairs\"}", "key 'name': expected a string, got a number"},
        {"{\"name\":\"\",\"rope\":\"pairs\"}", "key 'name': expected 1 to 31 printable"},
        {"{\"name\":\"" LONG32 "\",\"rope\":\"pairs\"}", "key 'name': expected 1 to 31 printable"},
        {"{\"name\":\"a b\",\"rope\":\"pairs\"}", "key 'name': expected 1 to 31 printable"},
        {"{\"name\":\"a\\u0000\",\"rope\":\"pairs\"}", "key 'name': expected 1 to 31 printable"},
        {"{\"name\":\"p\",\"rope\":\"neox\"}",
         "key 'rope': expected \"pairs\" or \"halves\", got 'neox'"},
        {"{\"name\":\"p\",\"rope\":true}",
         "key 'rope': expected \"pairs\" or \"halves\", got true"},
        {"{" GOOD ",\"qk_norm\":true}",
         "key 'qk_norm': expected \"none\" or \"head\" or \"all\", got true"},
        {"{" GOOD ",\"norms\":\"mid\"}",
         "key 'norms': expected \"pre\" or \"post\" or \"both\", got 'mid'"},
        {"{" GOOD ",\"head\":\"none\"}", "key 'head': expected \"either\" or \"own\" or \"tied\""},
        {"{" GOOD ",\"biases\":[]}", "key 'biases': expected an object, got an array"},
        {"{" GOOD ",\"biases\":{\"attn_norm\":\"required\"}}",
         "unknown key 'attn_norm'; expected one of: attn_q"},
        {"{" GOOD ",\"biases\":{\"attn_q\":true}}",
         "key 'attn_q': expected \"optional\" or \"required\""},
        {"{" GOOD ",\"biases\":{\"attn_q\":\"required\",\"attn_q\":\"optional\"}}",
         "repeated key 'attn_q'"},
        {"{" GOOD ",\"window\":16}", "key 'window': expected an object, got a number"},
        {"{" GOOD ",\"window\":{\"size\":0}}", "key 'size': expected a whole number, 1 to"},
        {"{" GOOD ",\"window\":{\"size\":1.5}}", "key 'size': expected a whole number, 1 to"},
        {"{" GOOD ",\"window\":{\"size\":-4}}", "key 'size': expected a whole number, 1 to"},
        {"{" GOOD ",\"window\":{\"size\":1e300}}", "key 'size': expected a whole number, 1 to"},
        {"{" GOOD ",\"window\":{\"size\":\"4\"}}", "key 'size': expected a number, got a string"},
        {"{" GOOD ",\"window\":{\"layers\":[]}}", "key 'layers': expected an array of 1 to 64"},
        {"{" GOOD ",\"window\":{\"layers\":[true,1]}}",
         "key 'layers': expected an array of 1 to 64"},
        {"{" GOOD ",\"window\":{\"every\":2}}",
         "unknown key 'every'; expected one of: size layers"},
        {"{" GOOD ",\"tensors\":{\"attn_q\":\"q\"}}", "key 'attn_q': expected a name with one {}"},
        {"{" GOOD ",\"tensors\":{\"attn_q\":\"{}.{}\"}}",
         "key 'attn_q': expected a name with one {}"},
        {"{" GOOD ",\"tensors\":{\"output\":\"o{}\"}}", "key 'output': expected a name without {}"},
        {"{" GOOD ",\"tensors\":{\"wq\":\"q{}\"}}",
         "unknown key 'wq'; expected one of: token_embd"},
        {"{" GOOD ",\"tensors\":{\"output\":\"" LONG32 LONG32 "\"}}",
         "key 'output': expected 1 to 63"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vly_arch arch;
        vly_error err = {0};
        assert_int_equal(parse(cases[i].json, &arch, &err), VLY_E_FORMAT);
        if (!strstr(err.message, cases[i].message) || !strstr(err.message, "FILE"))
            fail_msg("%s: '%s' lacks '%s'", cases[i].json, err.message, cases[i].message);
    }
}

static void many_layers_are_too_many(void **state)
{
    (void)state;
    char json[2048] = "{" GOOD ",\"window\":{\"layers\":[true";
    vly_arch arch;
    vly_error err;
    for (int i = 1; i < VLY_MAX_PATTERN; i++) strcat(json, ",false");
    size_t n = strlen(json);
    strcpy(json + n, "]}}");
    assert_int_equal(parse(json, &arch, &err), 0);
    assert_int_equal(arch.n_pattern, VLY_MAX_PATTERN);
    strcpy(json + n, ",true]}}");
    assert_int_equal(parse(json, &arch, &err), VLY_E_FORMAT);
}

/* ---- RoPE ---- */

enum { HEAD_DIM = 64, N_CTX = 4096 };

/* What the metadata that `write` adds says. */
static int read_rope(void (*write)(gguf_writer *), vly_rope_kind kind, vly_rope *out,
                     vly_error *err)
{
    gguf_writer *writer = gguf_writer_create(3);
    gguf_writer_f32(writer, "a.rope.freq_base", 10000.0f);
    if (write) write(writer);
    size_t n;
    uint8_t *image = gguf_writer_image(writer, &n);
    vly_gguf *gguf;
    int rc = vly_gguf_open_memory(image, n, &gguf, err);
    if (rc == 0) {
        rc = vly_rope_read(gguf, "a", kind, HEAD_DIM, N_CTX, out, err);
        vly_gguf_close(gguf);
    }
    free(image);
    gguf_writer_destroy(writer);
    return rc;
}

static vly_rope rope_of(void (*write)(gguf_writer *))
{
    vly_rope rope;
    vly_error err;
    if (read_rope(write, VLY_ROPE_PAIRS, &rope, &err)) fail_msg("%s", err.message);
    return rope;
}

static double plain(uint32_t i)
{
    return pow(10000.0, -2.0 * i / HEAD_DIM);
}

static void expect(const vly_rope *rope, uint32_t i, double factor)
{
    double f[HEAD_DIM / 2];
    vly_rope_frequencies(rope, NULL, f);
    double expected = plain(i) * factor;
    if (fabs(f[i] - expected) > 1e-12 * expected)
        fail_msg("pair %u: %.12g, expected %.12g", i, f[i], expected);
}

static void write_linear(gguf_writer *w)
{
    gguf_writer_string(w, "a.rope.scaling.type", "linear");
    gguf_writer_f32(w, "a.rope.scaling.factor", 4.0f);
}

static void write_old_linear(gguf_writer *w)
{
    gguf_writer_f32(w, "a.rope.scale_linear", 4.0f);
}

static void write_longer_linear(gguf_writer *w)
{
    write_linear(w);
    gguf_writer_f32(w, "a.rope.scaling.attn_factor", 1.25f);
}

static void write_yarn(gguf_writer *w)
{
    gguf_writer_string(w, "a.rope.scaling.type", "yarn");
    gguf_writer_f32(w, "a.rope.scaling.factor", 16.0f);
    gguf_writer_u32(w, "a.rope.scaling.original_context_length", 256);
}

static void write_yarn_factors(gguf_writer *w)
{
    write_yarn(w);
    gguf_writer_f32(w, "a.rope.scaling.attn_factor", 1.5f);
    gguf_writer_f32(w, "a.rope.scaling.yarn_log_multiplier", 0.5f);
}

static void write_llama3(gguf_writer *w)
{
    gguf_writer_string(w, "a.rope.scaling.type", "llama3");
    gguf_writer_f32(w, "a.rope.scaling.factor", 8.0f);
    gguf_writer_u32(w, "a.rope.scaling.original_context_length", 256);
}

static void scalings_change_frequencies(void **state)
{
    (void)state;
    vly_rope rope = rope_of(NULL);
    expect(&rope, 0, 1);
    expect(&rope, 31, 1);
    rope = rope_of(write_linear);
    expect(&rope, 0, 0.25);
    expect(&rope, 31, 0.25);
    assert_true(rope.magnitude == 1.0f);
    rope = rope_of(write_longer_linear);
    expect(&rope, 31, 0.25);
    assert_true(rope.magnitude == 1.25f);
    rope = rope_of(write_old_linear);
    expect(&rope, 17, 0.25);

    /* 64 ln(256 / (2 pi 32)) / (2 ln 10000) = 0.84, 64 ln(256 / (2 pi)) / (2 ln 10000) = 12.88:
     * pairs from 13 on are interpolated, pair 0 is not, pair 5 is by 5 / 13. */
    rope = rope_of(write_yarn);
    expect(&rope, 0, 1);
    expect(&rope, 13, 1.0 / 16);
    expect(&rope, 31, 1.0 / 16);
    expect(&rope, 5, 5.0 / 13 / 16 + 8.0 / 13);
    assert_true(fabsf(rope.magnitude - (0.1f * logf(16.0f) + 1.0f)) < 1e-6f);
    rope = rope_of(write_yarn_factors);
    float ratio = (0.1f * logf(16.0f) + 1.0f) / (0.05f * logf(16.0f) + 1.0f);
    assert_true(fabsf(rope.magnitude - 1.5f * ratio) < 1e-6f);

    /* Pairs that turn more than 4 times in 256 positions stay, those that do less than once are
     * scaled, those between are mixed. */
    rope = rope_of(write_llama3);
    expect(&rope, 0, 1);
    expect(&rope, 8, 1);        /* 4.07 turns */
    expect(&rope, 13, 1.0 / 8); /* 0.97 */
    double smooth = (256 * plain(10) / (2 * 3.14159265358979323846) - 1) / 3;
    expect(&rope, 10, (1 - smooth) / 8 + smooth);
}

static void divisors_come_before_scalings(void **state)
{
    (void)state;
    vly_rope rope = rope_of(write_linear);
    float divisors[HEAD_DIM / 2];
    double f[HEAD_DIM / 2];
    for (int i = 0; i < HEAD_DIM / 2; i++) divisors[i] = (float)(i + 1);
    vly_rope_frequencies(&rope, divisors, f);
    for (uint32_t i = 0; i < HEAD_DIM / 2; i++)
        assert_true(fabs(f[i] * (i + 1) * 4 - plain(i)) < 1e-12);
}

static void write_partial(gguf_writer *w)
{
    write_yarn(w);
    gguf_writer_u32(w, "a.rope.dimension_count", 16);
}

static void rows_hold_cos_and_sin(void **state)
{
    (void)state;
    vly_rope rope = rope_of(write_partial);
    double f[HEAD_DIM / 2];
    float row[HEAD_DIM];
    vly_rope_frequencies(&rope, NULL, f);
    vly_rope_row(&rope, f, 100, row);
    double magnitude = 0.1 * log(16.0) + 1;
    for (uint32_t i = 0; i < 8; i++) {
        assert_true(fabs((double)row[2 * i] - cos(100 * f[i]) * magnitude) < 1e-6);
        assert_true(fabs((double)row[2 * i + 1] - sin(100 * f[i]) * magnitude) < 1e-6);
    }
    for (uint32_t i = 16; i < HEAD_DIM; i += 2) assert_true(row[i] == 1.0f && row[i + 1] == 0.0f);
}

/* Halves that are rotated together become neighbours; what is not rotated stays. */
static void halves_become_pairs(void **state)
{
    (void)state;
    vly_rope rope;
    vly_error err;
    assert_int_equal(read_rope(write_partial, VLY_ROPE_HALVES, &rope, &err), 0);
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(vly_rope_source(&rope, 2 * i), i);
        assert_int_equal(vly_rope_source(&rope, 2 * i + 1), i + 8);
    }
    for (uint32_t i = 16; i < HEAD_DIM; i++) assert_int_equal(vly_rope_source(&rope, i), i);
    rope.kind = VLY_ROPE_PAIRS;
    for (uint32_t i = 0; i < HEAD_DIM; i++) assert_int_equal(vly_rope_source(&rope, i), i);
}

static void write_longrope(gguf_writer *w)
{
    gguf_writer_string(w, "a.rope.scaling.type", "longrope");
}

static void write_no_factor(gguf_writer *w)
{
    write_yarn(w);
    gguf_writer_f32(w, "a.rope.scaling.yarn_beta_fast", 0.0f);
}

static void write_negative(gguf_writer *w)
{
    gguf_writer_f32(w, "a.rope.scaling.factor", -1.0f);
}

static void write_odd(gguf_writer *w)
{
    gguf_writer_u32(w, "a.rope.dimension_count", 15);
}

static void write_too_many(gguf_writer *w)
{
    gguf_writer_u32(w, "a.rope.dimension_count", 66);
}

static void write_no_context(gguf_writer *w)
{
    gguf_writer_u32(w, "a.rope.scaling.original_context_length", 0);
}

static void write_crossed(gguf_writer *w)
{
    write_llama3(w);
    gguf_writer_f32(w, "a.rope.scaling.high_freq_factor", 1.0f);
}

static void absurd_scalings_are_refused(void **state)
{
    (void)state;
    static const struct {
        void (*write)(gguf_writer *);
        const char *key;
    } cases[] = {
        {write_longrope, "a.rope.scaling.type is 'longrope'"},
        {write_no_factor, "a.rope.scaling.yarn_beta_fast is 0"},
        {write_negative, "a.rope.scaling.factor is -1"},
        {write_odd, "a.rope.dimension_count is 15"},
        {write_too_many, "a.rope.dimension_count is 66"},
        {write_no_context, "a.rope.scaling.original_context_length is 0"},
        {write_crossed, "a.rope.scaling.high_freq_factor is 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vly_rope rope;
        vly_error err;
        assert_int_not_equal(read_rope(cases[i].write, VLY_ROPE_PAIRS, &rope, &err), 0);
        if (!strstr(err.message, cases[i].key))
            fail_msg("'%s' lacks '%s'", err.message, cases[i].key);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_have_their_blocks),
        cmocka_unit_test(a_short_description_is_a_plain_model),
        cmocka_unit_test(a_full_description_is_taken),
        cmocka_unit_test(faults_are_named),
        cmocka_unit_test(many_layers_are_too_many),
        cmocka_unit_test(scalings_change_frequencies),
        cmocka_unit_test(divisors_come_before_scalings),
        cmocka_unit_test(rows_hold_cos_and_sin),
        cmocka_unit_test(halves_become_pairs),
        cmocka_unit_test(absurd_scalings_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

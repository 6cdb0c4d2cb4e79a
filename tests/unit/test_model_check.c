/* What a file must have to be run: metadata and tensors of small models, whole and with one fault.
 */
#include "model/config.h"
#include "tests/support/gguf_writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { DIM = 8, FF = 12, N_HEAD = 2, N_KV = 1, HEAD_DIM = 16, VOCAB = 5, N_LAYER = 2, N_CTX = 64 };

/* A model, and the one thing that is wrong with it or its own. */
typedef struct {
    const char *arch;
    const char *left_out; /* a tensor */
    const char *extra;    /* one more tensor */
    const char *reshaped; /* a tensor of one row or number more */
    const char *reformed; /* a tensor of `format` */
    vly_format_id format;
    bool tied;   /* no output.weight */
    bool biases; /* of Q, K and V */
    bool qk_norms;
    uint32_t n_tokens;            /* of the tokenizer; 0: VOCAB */
    uint32_t head_size;           /* 0: HEAD_DIM */
    void (*write)(gguf_writer *); /* more metadata */
} model;

static void put_tensor(gguf_writer *w, const model *m, const char *name, uint64_t columns,
                       uint64_t rows)
{
    static uint8_t zeros[32768];
    if (m->left_out && strcmp(m->left_out, name) == 0) return;
    if (m->reshaped && strcmp(m->reshaped, name) == 0) *(rows > 1 ? &rows : &columns) += 1;
    const vly_format *f = vly_format_by_id(
        m->reformed && strcmp(m->reformed, name) == 0 ? m->format : VLY_FORMAT_f32);
    uint64_t dims[2] = {columns, rows};
    gguf_writer_tensor(w, name, rows > 1 ? 2 : 1, dims, f->ggml_id, zeros,
                       columns / f->block_weights * f->block_bytes * rows);
}

static void put_layer(gguf_writer *w, const model *m, int i)
{
    const uint32_t size = m->head_size ? m->head_size : HEAD_DIM;
    const struct {
        const char *name;
        uint64_t columns, rows;
        bool there;
    } tensors[] = {
        {"attn_norm.weight", DIM, 1, true},
        {"attn_q.weight", DIM, N_HEAD * size, true},
        {"attn_k.weight", DIM, N_KV * size, true},
        {"attn_v.weight", DIM, N_KV * size, true},
        {"attn_q.bias", N_HEAD * size, 1, m->biases},
        {"attn_k.bias", N_KV * size, 1, m->biases},
        {"attn_v.bias", N_KV * size, 1, m->biases},
        {"attn_q_norm.weight", size, 1, m->qk_norms},
        {"attn_k_norm.weight", size, 1, m->qk_norms},
        {"attn_output.weight", N_HEAD * size, DIM, true},
        {"ffn_norm.weight", DIM, 1, true},
        {"ffn_gate.weight", DIM, FF, true},
        {"ffn_up.weight", DIM, FF, true},
        {"ffn_down.weight", FF, DIM, true},
    };
    for (size_t j = 0; j < sizeof tensors / sizeof *tensors; j++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.%s", i, tensors[j].name);
        if (tensors[j].there) put_tensor(w, m, name, tensors[j].columns, tensors[j].rows);
    }
}

static void put_metadata(gguf_writer *w, const model *m)
{
    const uint32_t size = m->head_size ? m->head_size : HEAD_DIM;
    const struct {
        const char *key;
        uint32_t value;
    } numbers[] = {{"block_count", N_LAYER},         {"embedding_length", DIM},
                   {"feed_forward_length", FF},      {"context_length", N_CTX},
                   {"attention.head_count", N_HEAD}, {"attention.head_count_kv", N_KV},
                   {"attention.key_length", size},   {"attention.value_length", size}};
    char key[96];
    gguf_writer_string(w, "general.architecture", m->arch);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        snprintf(key, sizeof key, "%s.%s", m->arch, numbers[i].key);
        gguf_writer_u32(w, key, numbers[i].value);
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", m->arch);
    gguf_writer_f32(w, key, 1e-5f);
    const vly_bytes tokens[VOCAB + 1] = {{"a", 1}, {"b", 1}, {"c", 1},
                                         {"d", 1}, {"e", 1}, {"f", 1}};
    gguf_writer_strings(w, "tokenizer.ggml.tokens", tokens, m->n_tokens ? m->n_tokens : VOCAB);
    if (m->write) m->write(w);
}

static int check(const model *m, const vly_arch *described, vly_model_config *out, vly_error *err)
{
    gguf_writer *w = gguf_writer_create(3);
    put_metadata(w, m);
    put_tensor(w, m, "token_embd.weight", DIM, VOCAB);
    if (!m->tied) put_tensor(w, m, "output.weight", DIM, VOCAB);
    put_tensor(w, m, "output_norm.weight", DIM, 1);
    for (int i = 0; i < N_LAYER; i++) put_layer(w, m, i);
    if (m->extra) put_tensor(w, m, m->extra, DIM, 1);
    size_t n;
    uint8_t *image = gguf_writer_image(w, &n);
    vly_gguf *gguf;
    if (vly_gguf_open_memory(image, n, &gguf, err)) fail_msg("%s", err->message);
    int rc = vly_model_check(gguf, described, out, err);
    vly_gguf_close(gguf);
    free(image);
    gguf_writer_destroy(w);
    return rc;
}

static vly_model_config accept(model m)
{
    vly_model_config config;
    vly_error err;
    if (check(&m, NULL, &config, &err)) fail_msg("%s", err.message);
    return config;
}

static void refuse(model m, int code, const char *message)
{
    vly_model_config config;
    vly_error err = {0};
    assert_int_equal(check(&m, NULL, &config, &err), code);
    if (!strstr(err.message, message)) fail_msg("'%s' lacks '%s'", err.message, message);
}

static void sound_models_pass(void **state)
{
    (void)state;
    vly_model_config c = accept((model){.arch = "llama"});
    assert_true(!c.tied_head && c.biases == 0 && c.window == 0 && c.n_vocab == VOCAB);
    c = accept((model){.arch = "llama", .tied = true, .biases = true});
    assert_true(c.tied_head && vly_config_has_bias(&c, VLY_TENSOR_ATTN_V));
    assert_false(vly_config_has_bias(&c, VLY_TENSOR_ATTN_OUTPUT));
    accept((model){.arch = "mistral"});
    accept((model){.arch = "qwen2", .biases = true});
    accept((model){.arch = "qwen3", .qk_norms = true, .tied = true});
}

static void missing_tensors_are_named(void **state)
{
    (void)state;
    static const char *const names[] = {"token_embd.weight",      "output_norm.weight",
                                        "blk.0.attn_norm.weight", "blk.1.attn_q.weight",
                                        "blk.1.ffn_down.weight",  "blk.0.attn_k.bias"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char message[96];
        snprintf(message, sizeof message, "1 tensor is missing: %s", names[i]);
        refuse((model){.arch = "qwen2", .biases = true, .left_out = names[i]}, VLY_E_FORMAT,
               message);
    }
    /* Of biases that the first layer has. */
    refuse((model){.arch = "llama", .biases = true, .left_out = "blk.1.attn_v.bias"}, VLY_E_FORMAT,
           "1 tensor is missing: blk.1.attn_v.bias");
    refuse((model){.arch = "qwen2"}, VLY_E_FORMAT,
           "6 tensors are missing: blk.0.attn_q.bias, blk.0.attn_k.bias");
    refuse((model){.arch = "qwen3"}, VLY_E_FORMAT,
           "4 tensors are missing: blk.0.attn_q_norm.weight");
}

static void unexpected_tensors_are_named(void **state)
{
    (void)state;
    refuse((model){.arch = "llama", .extra = "blk.0.attn_sinks.weight"}, VLY_E_FORMAT,
           "1 tensor that architecture llama does not have: 'blk.0.attn_sinks.weight'");
    refuse((model){.arch = "llama", .extra = "blk.2.attn_norm.weight"}, VLY_E_FORMAT,
           "1 tensor that architecture llama does not have: 'blk.2.attn_norm.weight'");
    refuse((model){.arch = "mistral", .biases = true}, VLY_E_FORMAT,
           "6 tensors that architecture mistral does not have: 'blk.0.attn_q.bias', ");
    refuse((model){.arch = "llama", .qk_norms = true}, VLY_E_FORMAT, "'blk.0.attn_q_norm.weight'");
    refuse((model){.arch = "llama", .extra = "\x1b[2J\n"}, VLY_E_FORMAT, "'\\x1b[2J\\x0a'");
}

static void renamed_tensors_are_named_twice(void **state)
{
    (void)state;
    refuse((model){.arch = "llama", .left_out = "blk.1.ffn_up.weight", .extra = "blk.1.up.weight"},
           VLY_E_FORMAT,
           "1 tensor is missing: blk.1.ffn_up.weight; 1 tensor that architecture llama does not "
           "have: 'blk.1.up.weight'");
}

static void shapes_and_formats_are_checked(void **state)
{
    (void)state;
    refuse((model){.arch = "llama", .reshaped = "blk.1.ffn_up.weight"}, VLY_E_FORMAT,
           "tensor blk.1.ffn_up.weight is 8 x 13; expected 8 x 12");
    refuse((model){.arch = "llama", .reshaped = "blk.0.ffn_norm.weight"}, VLY_E_FORMAT,
           "tensor blk.0.ffn_norm.weight is 9 x 1; expected 8 x 1");
    refuse((model){.arch = "qwen2", .biases = true, .reshaped = "blk.1.attn_k.bias"}, VLY_E_FORMAT,
           "tensor blk.1.attn_k.bias is 17 x 1; expected 16 x 1");
    refuse((model){.arch = "llama", .extra = "rope_freqs.weight", .reshaped = "rope_freqs.weight"},
           VLY_E_FORMAT, "tensor rope_freqs.weight is 9 x 1; expected 8 x 1");
    accept((model){.arch = "llama", .extra = "rope_freqs.weight"});
    accept(
        (model){.arch = "llama", .reformed = "blk.0.attn_norm.weight", .format = VLY_FORMAT_f16});
    /* 32 numbers: a block. */
    refuse((model){.arch = "qwen2",
                   .biases = true,
                   .reformed = "blk.0.attn_q.bias",
                   .format = VLY_FORMAT_q8_0},
           VLY_E_UNSUPPORTED,
           "tensor blk.0.attn_q.bias has format q8_0; expected f32, f16 or bf16");
}

/* Heads take multiples of 16 on the device. */
static void heads_have_even_sizes(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {2, 8, 14, 18, 100, 254, 256};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        vly_model_config c = accept(
            (model){.arch = "qwen3", .qk_norms = true, .biases = false, .head_size = sizes[i]});
        assert_int_equal(c.head_size, sizes[i]);
        assert_true(c.head_dim % 16 == 0 && c.head_dim >= sizes[i] && c.head_dim < sizes[i] + 16);
    }
    refuse((model){.arch = "llama", .head_size = 7}, VLY_E_UNSUPPORTED,
           "head size 7; expected an even number, at most 256");
    refuse((model){.arch = "llama", .head_size = 258}, VLY_E_UNSUPPORTED,
           "head size 258; expected an even number, at most 256");
}

static void vocabularies_are_alike(void **state)
{
    (void)state;
    refuse((model){.arch = "llama", .n_tokens = VOCAB + 1}, VLY_E_FORMAT,
           "the tokenizer has 6 tokens and the head, output.weight, 5 rows");
    refuse((model){.arch = "llama", .n_tokens = VOCAB - 1}, VLY_E_FORMAT,
           "the tokenizer has 4 tokens and the head, output.weight, 5 rows");
    refuse((model){.arch = "llama", .reshaped = "output.weight"}, VLY_E_FORMAT,
           "the head, output.weight, 6 rows");
    refuse((model){.arch = "llama", .reshaped = "token_embd.weight"}, VLY_E_FORMAT,
           "the 6 rows of token_embd.weight");
}

static void described_architectures_come_first(void **state)
{
    (void)state;
    vly_arch mine = {.name = "mine", .rope = VLY_ROPE_HALVES, .head = VLY_HEAD_OWN};
    vly_model_config c;
    vly_error err;
    model m = {.arch = "mine"};
    if (check(&m, &mine, &c, &err)) fail_msg("%s", err.message);
    assert_int_equal(c.rope.kind, VLY_ROPE_HALVES);
    refuse(m, VLY_E_UNSUPPORTED, "architecture 'mine' is not supported; expected one of: llama");
    m.tied = true;
    assert_int_equal(check(&m, &mine, &c, &err), VLY_E_FORMAT);
    assert_non_null(strstr(err.message, "missing: output.weight"));
    mine.head = VLY_HEAD_TIED;
    m.tied = false;
    assert_int_equal(check(&m, &mine, &c, &err), VLY_E_FORMAT);
    assert_non_null(strstr(err.message, "does not have: 'output.weight'"));
    /* The same name as a known one's. */
    vly_arch llama = {.name = "llama", .rope = VLY_ROPE_HALVES};
    m = (model){.arch = "llama"};
    assert_int_equal(check(&m, &llama, &c, &err), 0);
    assert_int_equal(c.rope.kind, VLY_ROPE_HALVES);
}

/* ---- windows ---- */

static void write_window(gguf_writer *w)
{
    gguf_writer_u32(w, "llama.attention.sliding_window", 8);
}

static void write_wide_window(gguf_writer *w)
{
    gguf_writer_u32(w, "llama.attention.sliding_window", N_CTX);
}

static void write_period(gguf_writer *w)
{
    write_window(w);
    gguf_writer_u32(w, "llama.attention.sliding_window_pattern", 2);
}

static void write_truths(gguf_writer *w)
{
    write_window(w);
    gguf_writer_numbers(w, "llama.attention.sliding_window_pattern", VLY_GGUF_BOOL, "\0\1", 2);
}

static void write_three_truths(gguf_writer *w)
{
    write_window(w);
    gguf_writer_numbers(w, "llama.attention.sliding_window_pattern", VLY_GGUF_BOOL, "\0\1\1", 3);
}

static void windows_are_read(void **state)
{
    (void)state;
    vly_model_config c = accept((model){.arch = "llama", .write = write_window});
    assert_true(vly_config_window(&c, 0) == 8 && vly_config_all_windowed(&c));
    c = accept((model){.arch = "llama", .write = write_wide_window});
    assert_true(vly_config_window(&c, 0) == 0 && !vly_config_all_windowed(&c));
    c = accept((model){.arch = "llama", .write = write_period});
    assert_true(vly_config_window(&c, 0) == 8 && vly_config_window(&c, 1) == 0);
    assert_false(vly_config_all_windowed(&c));
    c = accept((model){.arch = "llama", .write = write_truths});
    assert_true(vly_config_window(&c, 0) == 0 && vly_config_window(&c, 1) == 8);
    refuse((model){.arch = "llama", .write = write_three_truths}, VLY_E_FORMAT,
           "llama.attention.sliding_window_pattern: expected a truth value for each of 2 layers");

    vly_arch mine = {.name = "llama", .window = 4, .n_pattern = 2, .pattern = {false, true}};
    model m = {.arch = "llama"};
    vly_error err;
    assert_int_equal(check(&m, &mine, &c, &err), 0);
    assert_true(vly_config_window(&c, 0) == 0 && vly_config_window(&c, 1) == 4);
    m.write = write_window;
    assert_int_equal(check(&m, &mine, &c, &err), 0);
    assert_int_equal(vly_config_window(&c, 1), 8);
}

/* ---- what is not supported ---- */

static void write_experts(gguf_writer *w)
{
    gguf_writer_u32(w, "llama.expert_count", 8);
}

static void write_no_experts(gguf_writer *w)
{
    gguf_writer_u32(w, "llama.expert_count", 0);
    gguf_writer_f32(w, "llama.logit_scale", 1.0f);
    gguf_writer_f32(w, "llama.attn_logit_softcapping", 0.0f);
}

static void write_softcap(gguf_writer *w)
{
    gguf_writer_f32(w, "llama.final_logit_softcapping", 30.0f);
}

static void write_seeing_ahead(gguf_writer *w)
{
    gguf_writer_bool(w, "llama.attention.causal", false);
}

static void write_word(gguf_writer *w)
{
    gguf_writer_string(w, "llama.attention.scale", "large");
}

static void what_would_change_the_numbers_is_refused(void **state)
{
    (void)state;
    refuse((model){.arch = "llama", .write = write_experts}, VLY_E_UNSUPPORTED,
           "llama.expert_count is 8");
    accept((model){.arch = "llama", .write = write_no_experts});
    refuse((model){.arch = "llama", .write = write_softcap}, VLY_E_UNSUPPORTED,
           "llama.final_logit_softcapping is 30");
    refuse((model){.arch = "llama", .write = write_seeing_ahead}, VLY_E_UNSUPPORTED,
           "llama.attention.causal is false");
    refuse((model){.arch = "llama", .write = write_word}, VLY_E_FORMAT, "llama.attention.scale");
}

static void write_name_to_obey(gguf_writer *w)
{
    gguf_writer_string(w, "general.name",
                       "\x1b[2J\x7fr\xc3\xa9\xc2\x9b"
                       "d\n");
}

static void write_long_name(gguf_writer *w)
{
    char name[201] = "xx";
    for (int i = 2; i < 200; i += 3) memcpy(name + i, "\xe2\x82\xac", 3);
    gguf_writer_string(w, "general.name", name);
}

static void names_can_be_printed(void **state)
{
    (void)state;
    assert_string_equal(accept((model){.arch = "llama"}).name, "memory");
    assert_string_equal(accept((model){.arch = "llama", .write = write_name_to_obey}).name,
                        "?[2J?r\xc3\xa9?d?");
    vly_model_config c = accept((model){.arch = "llama", .write = write_long_name});
    assert_int_equal(strlen(c.name), 2 + 41 * 3); /* of 127 bytes the last two are no character */
    assert_memory_equal(c.name + 2 + 40 * 3, "\xe2\x82\xac", 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound_models_pass),
        cmocka_unit_test(missing_tensors_are_named),
        cmocka_unit_test(unexpected_tensors_are_named),
        cmocka_unit_test(renamed_tensors_are_named_twice),
        cmocka_unit_test(shapes_and_formats_are_checked),
        cmocka_unit_test(heads_have_even_sizes),
        cmocka_unit_test(vocabularies_are_alike),
        cmocka_unit_test(described_architectures_come_first),
        cmocka_unit_test(windows_are_read),
        cmocka_unit_test(what_would_change_the_numbers_is_refused),
        cmocka_unit_test(names_can_be_printed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* How well a draft would serve: counts of a sample text, and the weights of a step. */
#include "spec/fit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

typedef struct {
    vly_gguf *gguf;
    vly_model_config config;
    vly_tokenizer *tokenizer;
} file;

static file open_file(const char *path)
{
    file f;
    vly_error err = {0};
    if (vly_gguf_open(path, &f.gguf, &err) || vly_model_check(f.gguf, NULL, &f.config, &err) ||
        vly_tokenizer_create(f.gguf, &f.tokenizer, &err))
        fail_msg("%s", err.message);
    return f;
}

static vly_fit_model model_of(const file *f)
{
    return (vly_fit_model){f->gguf, &f->config, f->tokenizer};
}

static void close_file(file *f)
{
    vly_tokenizer_destroy(f->tokenizer);
    vly_gguf_close(f->gguf);
}

static vly_draft_fit measure(const file *draft, const file *target, const char *text)
{
    const vly_fit_model from = model_of(draft), to = model_of(target);
    vly_draft_fit fit;
    vly_error err = {0};
    if (vly_draft_fit_measure(&from, &to, text, strlen(text), &fit, &err))
        fail_msg("%s", err.message);
    return fit;
}

#define TARGET "models/stories15M-q8_0.gguf"
#define DRAFT  "models/smol-stories-11M-q8_0.gguf"

/* Bytes of a matrix. */
static uint64_t q8_0(uint64_t rows, uint64_t columns)
{
    return rows * columns / 32 * 34;
}

static void the_shipped_pair(void **state)
{
    (void)state;
    file target = open_file(TARGET), draft = open_file(DRAFT);
    const vly_model_config *t = &target.config, *d = &draft.config;
    vly_draft_fit fit = measure(&draft, &target, "Once upon a time there was a dog.");
    assert_false(fit.identity);
    assert_int_equal(fit.n_draft, 49152);
    assert_true(fit.n_mapped > 10000 && fit.n_mapped < 32000);
    assert_int_equal(fit.text_bytes, 33);
    assert_int_equal(fit.mapped_bytes, 33);
    assert_int_equal(fit.text_tokens, fit.mapped_tokens);
    /* Per layer Q, K, V, O, gate, up, down and two norms; the last norm; the head. */
    uint64_t kv = (uint64_t)t->n_head_kv * t->head_dim, q = (uint64_t)t->n_head * t->head_dim;
    uint64_t layer = q8_0(2 * q + 2 * kv, t->dim) + q8_0(3ull * t->ff_dim, t->dim) + 8ull * t->dim;
    uint64_t step = t->n_layer * layer + 4ull * t->dim + q8_0(t->n_vocab, t->dim);
    assert_int_equal(fit.target_step_bytes, step);
    kv = (uint64_t)d->n_head_kv * d->head_dim;
    q = (uint64_t)d->n_head * d->head_dim;
    layer = q8_0(2 * q + 2 * kv, d->dim) + q8_0(3ull * d->ff_dim, d->dim) + 8ull * d->dim;
    step = d->n_layer * layer + 4ull * d->dim + q8_0(fit.n_mapped, d->dim);
    assert_int_equal(fit.draft_step_bytes, step);

    /* The draft has a token for a run of spaces, and none for each of most Chinese characters. */
    fit = measure(&draft, &target, "\xe4\xbd\xa0\xe5\xa5\xbd the dog");
    assert_int_equal(fit.text_bytes, 14);
    assert_true(fit.mapped_bytes >= 8 && fit.mapped_bytes < 14);
    assert_true(fit.mapped_tokens >= 2 && fit.mapped_tokens < fit.text_tokens);
    /* This byte is in none of the draft's tokens. */
    fit = measure(&draft, &target, "a\x04");
    assert_int_equal(fit.text_bytes, 2);
    assert_int_equal(fit.mapped_bytes, 1);
    fit = measure(&draft, &target, "");
    assert_true(fit.text_bytes == 0 && fit.text_tokens == 0 && fit.mapped_tokens == 0);
    close_file(&target);
    close_file(&draft);
}

static void the_same_vocabulary(void **state)
{
    (void)state;
    file target = open_file(TARGET), draft = open_file("tests/models/stories15M-q4_0.gguf");
    vly_draft_fit fit = measure(&draft, &target, "caf\xc3\xa9 \xe4\xbd\xa0 {}\n");
    assert_true(fit.identity);
    assert_true(fit.n_mapped == fit.n_draft && fit.n_draft == 32000);
    assert_true(fit.mapped_tokens == fit.text_tokens && fit.text_tokens > 0);
    assert_int_equal(fit.mapped_bytes, fit.text_bytes);
    assert_true(fit.draft_step_bytes < fit.target_step_bytes);
    close_file(&target);
    close_file(&draft);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_shipped_pair),
        cmocka_unit_test(the_same_vocabulary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

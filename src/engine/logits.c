/* Logits of every position of a text: the tool for checking numerics. */
#include "engine/engine_internal.h"

/* Hands out the rows of one chunk's positions but the first `skip`, VLY_MAX_BATCH at a time. */
static int read_rows(vly_engine *e, uint32_t pos, uint32_t skip, uint32_t n, const uint32_t *ids,
                     vly_logits_fn fn, void *arg, vly_error *err)
{
    struct vly_step *step = vly_model_step(e->target, VLY_STEP_BUFFER_DECODE);
    uint32_t stride = vly_model_logits_stride(e->target);
    for (uint32_t done = skip; done < n;) {
        uint32_t rows = n - done < VLY_MAX_BATCH ? n - done : VLY_MAX_BATCH;
        vly_gpu_commands *list[2];
        uint64_t ticket;
        step->n_rows = rows;
        for (uint32_t i = 0; i < rows; i++) step->row[i] = done + i;
        int rc = vly_model_pass(e->target, VLY_PASS_HEAD, rows, &list[0], err);
        if (rc == 0) rc = vly_model_pass(e->target, VLY_PASS_READ, rows, &list[1], err);
        if (rc == 0) rc = vly_gpu_submit(e->gpu, list, 2, NULL, NULL, &ticket, err);
        if (rc == 0) rc = vly_gpu_wait(e->gpu, ticket, err);
        for (uint32_t i = 0; rc == 0 && i < rows; i++, done++)
            rc = fn(arg, pos + done, ids[done], vly_model_logits(e->target) + (size_t)i * stride,
                    e->info.n_vocab);
        if (rc) return rc;
    }
    return 0;
}

static int run_chunk(vly_engine *e, vly_kv_seq *seq, const uint32_t *ids, uint32_t n,
                     vly_error *err)
{
    struct vly_step *step = vly_model_step(e->target, VLY_STEP_BUFFER_PROMPT);
    vly_gpu_commands *layers;
    uint64_t ticket;
    int rc = vly_kv_reserve(seq, seq->n_tok + n, err);
    if (rc) return rc;
    step->n_tok = n;
    vly_step_write(step, 0, ids, n, seq->n_tok, seq->slot);
    /* The head finds each row's sequence in its own step buffer. */
    vly_step_write(vly_model_step(e->target, VLY_STEP_BUFFER_DECODE), 0, ids, n, seq->n_tok,
                   seq->slot);
    if ((rc = vly_model_pass(e->target, VLY_PASS_PROMPT, n, &layers, err)) ||
        (rc = vly_gpu_submit(e->gpu, &layers, 1, NULL, NULL, &ticket, err)) ||
        (rc = vly_gpu_wait(e->gpu, ticket, err)))
        return rc;
    vly_kv_commit(seq, n);
    return 0;
}

int vly_engine_logits(vly_engine *e, const uint32_t *ids, size_t n, size_t first, vly_logits_fn fn,
                      void *arg, vly_error *err)
{
    if (e->n_sequences)
        return vly_fail(err, VLY_E_BUSY, "expected no sequence to run or wait, got %u",
                        e->n_sequences);
    if (n > e->info.n_ctx)
        return vly_fail(err, VLY_E_CONTEXT, "%zu tokens do not fit a context of %u", n,
                        e->info.n_ctx);
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= e->info.n_vocab)
            return vly_fail(err, VLY_E_INVALID, "token %zu is %u; the vocabulary has %u", i, ids[i],
                            e->info.n_vocab);
    vly_kv_seq seq;
    int rc = vly_kv_seq_init(vly_model_kv(e->target), &seq, err);
    if (rc) return rc;
    for (uint32_t pos = 0; rc == 0 && pos < n;) {
        uint32_t chunk = n - pos < VLY_MAX_CHUNK ? (uint32_t)n - pos : VLY_MAX_CHUNK;
        rc = run_chunk(e, &seq, ids + pos, chunk, err);
        uint32_t skip = first > pos ? (uint32_t)(first - pos) : 0;
        if (rc == 0) rc = read_rows(e, pos, skip, chunk, ids + pos, fn, arg, err);
        pos += chunk;
    }
    vly_kv_seq_deinit(&seq);
    return rc;
}

#include "drafts/batch.h"

uint32_t vly_submission_size(const vly_model *model, vly_pass pass, uint32_t n)
{
    uint32_t most = pass == VLY_PASS_PROMPT ? VLY_MAX_CHUNK : VLY_MAX_BATCH;
    for (uint32_t size = vly_model_bucket(pass, n); size <= most && size <= 2 * n + 2;
         size = vly_model_bucket(pass, size + 1)) {
        if (vly_model_has_pass(model, pass, size)) return size;
        if (size == most) break;
    }
    return vly_model_bucket(pass, n);
}

int vly_submission_add(vly_submission *list, vly_model *model, vly_pass pass, uint32_t n,
                       vly_error *err)
{
    n = vly_submission_size(model, pass, n);
    return vly_model_pass(model, pass, n, &list->commands[list->n++], err);
}

void vly_draft_batch_begin(vly_draft_batch *b, vly_model *model)
{
    *b = (vly_draft_batch){.model = model};
}

void vly_draft_batch_read(vly_draft_batch *b, vly_kv_seq *seq, const uint32_t *ids, uint32_t n)
{
    vly_step_write(vly_model_step(b->model, VLY_STEP_BUFFER_PROMPT), b->n_read, ids, n, seq->n_tok,
                   seq->slot);
    b->n_read += n;
    vly_kv_commit(seq, n);
}

bool vly_draft_batch_has_room(const vly_draft_batch *b, uint32_t n)
{
    return n <= VLY_MAX_BATCH - b->n_fed;
}

void vly_draft_batch_draft(vly_draft_batch *b, const vly_kv_seq *seq, const uint32_t *ids,
                           uint32_t n, uint32_t k, uint32_t verify,
                           const struct vly_step_sampling *sampling)
{
    struct vly_step *first = vly_model_step(b->model, VLY_STEP_BUFFER_DECODE);
    struct vly_step *further = vly_model_step(b->model, VLY_STEP_BUFFER_DRAFT);
    uint32_t row = b->n_rows++, last_pos = seq->n_tok + n - 1;
    vly_step_write(first, b->n_fed, ids, n, seq->n_tok, seq->slot);
    b->n_fed += n;
    first->row[row] = b->n_fed - 1;
    first->draft[row] = (struct vly_step_draft){.verify = verify, .n_left = k};
    /* Once it has all its tokens, a row repeats its last step: if that is the first one, this. */
    vly_step_write(further, row, &ids[n - 1], 1, last_pos, seq->slot);
    further->row[row] = row;
    first->sampling[seq->slot] = further->sampling[seq->slot] = *sampling;
    if (k > b->n_steps) b->n_steps = k;
}

int vly_draft_batch_add_chunk(vly_draft_batch *b, vly_submission *list, vly_error *err)
{
    if (b->n_read == 0) return 0;
    vly_model_step(b->model, VLY_STEP_BUFFER_PROMPT)->n_tok = b->n_read;
    return vly_submission_add(list, b->model, VLY_PASS_PROMPT, b->n_read, err);
}

/* The steps; the first one has room for n_fed tokens. */
static int add_steps(const vly_draft_batch *b, uint32_t n_fed, vly_submission *list, vly_error *err)
{
    int rc = vly_submission_add(list, b->model, VLY_PASS_LAYERS, n_fed, err);
    if (rc == 0) rc = vly_submission_add(list, b->model, VLY_PASS_HEAD, b->n_rows, err);
    if (rc == 0) rc = vly_submission_add(list, b->model, VLY_PASS_PICK, b->n_rows, err);
    for (uint32_t j = 1; j < b->n_steps; j++)
        for (int pass = VLY_PASS_DRAFT_LAYERS; rc == 0 && pass <= VLY_PASS_DRAFT_PICK; pass++)
            rc = vly_submission_add(list, b->model, pass, b->n_rows, err);
    return rc;
}

int vly_draft_batch_add_steps(vly_draft_batch *b, vly_submission *list, vly_error *err)
{
    if (b->n_rows == 0) return 0;
    struct vly_step *first = vly_model_step(b->model, VLY_STEP_BUFFER_DECODE);
    struct vly_step *further = vly_model_step(b->model, VLY_STEP_BUFFER_DRAFT);
    first->n_tok = b->n_fed;
    first->n_rows = further->n_tok = further->n_rows = b->n_rows;
    return add_steps(b, b->n_fed, list, err);
}

int vly_draft_batch_add_next(vly_draft_batch *b, vly_submission *list, vly_error *err)
{
    return b->n_rows ? add_steps(b, VLY_MAX_ADVANCED, list, err) : 0;
}

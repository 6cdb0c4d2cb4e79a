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

const vly_pass *vly_draft_passes(bool all)
{
    static const vly_pass passes[2][VLY_N_DRAFT_PASSES] = {
        {VLY_PASS_HEAD, VLY_PASS_PICK, VLY_PASS_DRAFT_LAYERS, VLY_PASS_DRAFT_HEAD,
         VLY_PASS_DRAFT_PICK},
        {VLY_PASS_HEAD_ALL, VLY_PASS_PICK_ALL, VLY_PASS_DRAFT_LAYERS, VLY_PASS_DRAFT_HEAD_ALL,
         VLY_PASS_DRAFT_PICK_ALL}};
    return passes[all];
}

void vly_draft_batch_begin(vly_draft_batch *b, vly_model *model)
{
    *b = (vly_draft_batch){.model = model, .was_all = b->all};
}

void vly_draft_batch_read(vly_draft_batch *b, vly_kv_seq *seq, const uint32_t *ids, uint32_t n)
{
    vly_step_write(vly_model_step(b->model, VLY_STEP_BUFFER_PROMPT), b->n_read, ids, n, seq->n_tok,
                   seq->slot);
    b->n_read += n;
    vly_kv_commit(seq, n);
}

bool vly_draft_batch_has_room(const vly_draft_batch *b, uint32_t n, bool all)
{
    bool fits = n <= VLY_MAX_BATCH - b->n_fed;
    return fits && (b->all == all || (all && b->n_rows == 0));
}

void vly_draft_batch_claim(vly_draft_batch *b)
{
    if (b->n_rows == 0 && !b->was_all) b->all = true;
}

uint32_t vly_draft_batch_set_apart(vly_draft_batch *b, uint32_t n)
{
    b->n_apart += n;
    return VLY_MAX_BATCH - b->n_apart;
}

void vly_draft_batch_draft(vly_draft_batch *b, const vly_kv_seq *seq, const uint32_t *ids,
                           uint32_t n, uint32_t k, uint32_t verify,
                           const struct vly_step_sampling *sampling, bool all)
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
    b->all = all;
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
    const vly_pass *pass = vly_draft_passes(b->all);
    int rc = vly_submission_add(list, b->model, VLY_PASS_LAYERS, n_fed, err);
    for (int i = 0; rc == 0 && i < 2; i++)
        rc = vly_submission_add(list, b->model, pass[i], b->n_rows, err);
    for (uint32_t j = 1; j < b->n_steps; j++)
        for (int i = 2; rc == 0 && i < VLY_N_DRAFT_PASSES; i++)
            rc = vly_submission_add(list, b->model, pass[i], b->n_rows, err);
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

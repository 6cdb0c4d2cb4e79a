#include "spec/batch.h"

void vly_batch_begin(vly_batch *b, vly_model *target, vly_model *draft)
{
    *b = (vly_batch){.target = target, .draft = b->draft};
    vly_draft_batch_begin(&b->draft, draft);
}

void vly_batch_read(vly_batch *b, vly_kv_seq *seq, const uint32_t *ids, uint32_t n)
{
    vly_step_write(vly_model_step(b->target, VLY_STEP_BUFFER_PROMPT), b->n_read, ids, n, seq->n_tok,
                   seq->slot);
    b->n_read += n;
    vly_kv_commit(seq, n);
}

static int add(vly_batch *b, vly_submission *list, vly_pass pass, uint32_t n, vly_error *err)
{
    return n ? vly_submission_add(list, b->target, pass, n, err) : 0;
}

static void add_mark(vly_batch *b, vly_gpu_commands *const *mark, uint32_t which,
                     vly_submission *list)
{
    bool new = which == VLY_MARK_CHUNK || list->n > b->n_marked;
    b->mark[which] = new ? which : b->mark[which - 1];
    if (new &&mark[which]) list->commands[list->n++] = mark[which];
    b->n_marked = list->n;
}

static int add_verify(vly_batch *b, vly_gpu_commands *const *mark, vly_submission *list,
                      vly_error *err)
{
    add_mark(b, mark, VLY_MARK_VERIFY, list);
    int rc = add(b, list, VLY_PASS_LAYERS, b->n_tok, err);
    if (rc == 0) rc = add(b, list, VLY_PASS_HEAD, b->n_rows, err);
    if (rc == 0 && b->picks) rc = add(b, list, VLY_PASS_PICK, b->n_rows, err);
    if (rc == 0 && b->advances) rc = add(b, list, VLY_PASS_ADVANCE, 1, err);
    if (rc == 0) rc = add(b, list, VLY_PASS_READ, b->n_host_rows, err);
    add_mark(b, mark, VLY_MARK_END, list);
    return rc;
}

int vly_batch_add_commands(vly_batch *b, vly_gpu_commands *const *mark, vly_submission *list,
                           vly_error *err)
{
    struct vly_step *step = vly_model_step(b->target, VLY_STEP_BUFFER_DECODE);
    step->n_tok = b->n_tok;
    step->n_rows = b->n_rows;
    step->n_advanced = 0;
    vly_model_step(b->target, VLY_STEP_BUFFER_PROMPT)->n_tok = b->n_read;
    add_mark(b, mark, VLY_MARK_CHUNK, list);
    int rc = add(b, list, VLY_PASS_PROMPT, b->n_read, err);
    if (rc == 0) rc = vly_draft_batch_add_chunk(&b->draft, list, err);
    add_mark(b, mark, VLY_MARK_DRAFT, list);
    if (rc == 0) rc = vly_draft_batch_add_steps(&b->draft, list, err);
    if (rc == 0) rc = add_verify(b, mark, list, err);
    b->n_pass = b->n_tok ? vly_submission_size(b->target, VLY_PASS_LAYERS, b->n_tok) : 0;
    return rc;
}

int vly_batch_add_next(vly_batch *b, vly_gpu_commands *const *mark, vly_submission *list,
                       vly_error *err)
{
    add_mark(b, mark, VLY_MARK_CHUNK, list);
    add_mark(b, mark, VLY_MARK_DRAFT, list);
    int rc = vly_draft_batch_add_next(&b->draft, list, err);
    return rc ? rc : add_verify(b, mark, list, err);
}

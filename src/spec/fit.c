#include "spec/fit.h"

#include "gguf/totals.h"
#include "model/tensors.h"
#include "spec/vocab_map.h"

#include <stdlib.h>

/* Bytes that a step reads, with `n_rows` of the head. */
static int count_step(const vly_fit_model *model, uint32_t n_rows, uint64_t *out, vly_error *err)
{
    vly_tensors tensors;
    int rc = vly_tensors_find(model->gguf, model->config, &tensors, err);
    if (rc) return rc;
    const vly_gguf_tensor *embed = tensors.model.weight[VLY_TENSOR_TOKEN_EMBD];
    const vly_gguf_tensor *head = tensors.model.weight[VLY_TENSOR_OUTPUT];
    uint64_t others = vly_gguf_count(model->gguf).all.n_bytes - embed->n_bytes;
    if (head)
        others -= head->n_bytes;
    else
        head = embed;
    *out = others + head->n_bytes / head->dims[1] * n_rows;
    vly_tensors_deinit(&tensors);
    return 0;
}

/* Counts what of the sample the mapped tokens, flagged by id, make up. */
static int count_text(const vly_tokenizer *draft, const bool *mapped, const char *text, size_t len,
                      vly_draft_fit *out, vly_error *err)
{
    vly_ids ids = {0};
    int rc = vly_tokenizer_encode(draft, text, len, VLY_ENCODE_CONTINUE, &ids, err);
    for (size_t i = 0; rc == 0 && i < ids.len; i++) {
        out->text_tokens++;
        if (!mapped[ids.data[i]]) continue;
        out->mapped_tokens++;
        out->mapped_bytes += vly_tokenizer_bytes(draft, ids.data[i]).len;
    }
    out->text_bytes = len;
    vly_ids_free(&ids);
    return rc;
}

int vly_draft_fit_measure(const vly_fit_model *draft, const vly_fit_model *target, const char *text,
                          size_t len, vly_draft_fit *out, vly_error *err)
{
    vly_vocab_map map;
    *out = (vly_draft_fit){0};
    int rc = vly_vocab_map_init(draft->tokenizer, target->tokenizer, draft->config->n_vocab,
                                target->config->n_vocab, &map, err);
    if (rc) return rc;
    out->identity = map.identity;
    out->n_draft = map.n_draft;
    out->n_mapped = map.n_mapped;
    bool *mapped = calloc(map.n_draft + (size_t)1, sizeof *mapped);
    if (!mapped) rc = vly_fail(err, VLY_E_HOST_MEMORY, "no memory to compare vocabularies");
    for (uint32_t i = 0; rc == 0 && i < map.n_mapped; i++) mapped[map.draft_id[i]] = true;
    if (rc == 0) rc = count_text(draft->tokenizer, mapped, text, len, out, err);
    if (rc == 0) rc = count_step(draft, map.n_mapped, &out->draft_step_bytes, err);
    if (rc == 0) rc = count_step(target, target->config->n_vocab, &out->target_step_bytes, err);
    free(mapped);
    vly_vocab_map_deinit(&map);
    return rc;
}

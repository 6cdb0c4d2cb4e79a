/* The draft model's context in one sequence: the text as its own tokens, of which the cache holds
 * those in front, and the rest is pending. Text that the model did not propose itself is encoded by
 * its own tokenizer from bytes, never mapped by id. */
#ifndef VLY_DRAFT_CONTEXT_H
#define VLY_DRAFT_CONTEXT_H

#include "drafts/draft.h"

struct vly_draft_context {
    vly_draft_source source;
    vly_model *model;
    vly_kv_seq seq;
    vly_ids own;      /* own tokens of the text: first those in the cache, then those pending */
    size_t n_seen;    /* tokens of the text that `own` stands for */
    uint32_t n_ahead; /* bytes of the one after these that it stands for, too */
    vly_text bytes;   /* of those that are being encoded */
    vly_ids encoded;  /* what they come to */
    vly_encode_work *work;
    size_t stale; /* from this own token on a word is in parts that the model does not know it by;
                     SIZE_MAX: none is */
    uint32_t n_tail; /* last own tokens that the device may take back, in a row of blocks ahead */
    bool started;    /* pages of earlier texts were looked for */
    bool reading;    /* chunk by chunk, until one token is left */
    bool full;       /* there is no room for the text: nothing more to do */
};

/* VLY_E_HOST_MEMORY, VLY_E_CONTEXT. */
int vly_draft_context_init(vly_draft_context *context, const vly_draft_source *source,
                           vly_error *err);
/* The context that a method of `source` goes by: the one that several share, or `own`, made ready.
 */
int vly_draft_context_share(const vly_draft_source *source, vly_draft_context *own,
                            vly_draft_context **out, vly_error *err);
void vly_draft_context_deinit(vly_draft_context *context);

/* Encodes what the text has grown by together with the word that the text ended with, as the model
 * has seen such text, which may take back some of the last tokens. */
int vly_draft_context_take(vly_draft_context *context, vly_error *err);

/* For blocks that run ahead of the host. They begin: tells the device which of the own tokens,
 * those pending included, it may take back. */
void vly_draft_context_begin_ahead(vly_draft_context *context, struct vly_blocks *blocks);
/* Takes in what the text has grown by, one token at most, as the device did: as that one's tokens,
 * or as a word that was in parts before. Where the model's tokenizer makes something else of such
 * text, `stale` tells from where on, for which the next vly_draft_context_take makes up. */
int vly_draft_context_take_ahead(vly_draft_context *context, vly_error *err);
/* The text goes on with these proposals, as own tokens. */
int vly_draft_context_accept_ahead(vly_draft_context *context, const uint32_t *own_ids, uint32_t n,
                                   vly_error *err);

/* Offers full pages of the cache to others, but for tokens that may yet be taken back. No step is
 * under way. */
void vly_draft_context_offer(vly_draft_context *context);

/* Own tokens that are not in the cache yet, [vly_draft_context_n_pending]. */
const uint32_t *vly_draft_context_pending(const vly_draft_context *context);
uint32_t vly_draft_context_n_pending(const vly_draft_context *context);

/* Tokens that there is room for after the pending ones; -1 where there is none for these: then it
 * is full from here on, and says so. */
int64_t vly_draft_context_room(vly_draft_context *context);

/* Makes room in the cache for `n` more tokens; *ok is false where others hold all pages, which is
 * no error: then nothing is drafted until they leave. */
int vly_draft_context_reserve(vly_draft_context *context, uint32_t n, bool *ok, vly_error *err);

/* As vly_draft_ops.read. All but the last token, which the next proposal feeds. Once the prompt is
 * read, a proposal feeds what there is, unless nothing was proposed for long. */
int vly_draft_context_read(vly_draft_context *context, vly_draft_batch *batch, uint32_t most,
                           uint32_t *n, vly_error *err);

/* Tokens to be read before something can be proposed; UINT32_MAX where it is full. */
uint32_t vly_draft_context_behind(const vly_draft_context *context);

#endif

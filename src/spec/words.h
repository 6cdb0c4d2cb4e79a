/* The draft's tokens by their bytes, so that blocks which run ahead of the host can take in a word
 * that is complete now as the one token that it is, in place of its parts: "un" and "happy" as
 * "unhappy". The device looks them up by two hashes of their bytes, and the host does the same, so
 * that both have the same context, right or wrong; what is wrong of it is put right later
 * (drafts/context.h). */
#ifndef VLY_SPEC_WORDS_H
#define VLY_SPEC_WORDS_H

#include "shaders/block.h"
#include "text/tokenizer.h"

typedef struct {
    struct vly_spelling *spelling; /* [n_tok] of the draft's tokens */
    uint32_t n_tok;
    struct vly_word *slots; /* [n_slots] a hash table, n_slots a power of two; 0: there is none */
    uint32_t n_slots;
} vly_words;

/* Of all tokens of several bytes; control tokens are no part of any. VLY_E_HOST_MEMORY; deinit it
 * in any case. */
int vly_words_init(const vly_tokenizer *draft, vly_words *words, vly_error *err);
void vly_words_deinit(vly_words *words);

struct vly_spelling vly_words_spell(vly_bytes bytes);

/* The longest end of `tail` [n_tail, at most VLY_WORD_TAIL] that is one token together with `more`:
 * of how many tokens it is, *id getting that token; 0 where there is none. As shaders/advance.comp
 * does it. */
uint32_t vly_words_join(const vly_words *words, const uint32_t *tail, uint32_t n_tail,
                        vly_bytes more, uint32_t *id);

#endif

/* Blocks that run ahead of the host (src/engine/ahead.c): what the device goes by to make the step
 * of the next one, and what it tells of each. Compiled by C and GLSL, there after shared.h. */
#ifndef VLY_BLOCK_SHARED_H
#define VLY_BLOCK_SHARED_H

#ifndef VLY_GLSL
#include "shaders/shared.h"
#endif

#define VLY_BLOCK_DRAFT 16 /* drafted tokens of a block at most: VLY_MAX_DRAFT of volley.h */

#define VLY_MAX_RECODED  7
#define VLY_MAX_ADVANCED (VLY_MAX_RECODED + 1) /* that the draft takes in after a block */
#define VLY_RECODE_HOST  VLY_NO_ID

/* Two hashes of some bytes, polynomials over them modulo 2^32, and the powers of their bases that
 * the hashes of what stands before are to be multiplied by: those of a and b in a row are
 * hash(a) * power(b) + hash(b). */
struct vly_spelling {
    VLY_U32 hash[2], power[2];
};

/* A token of the draft by the hashes of its bytes: within VLY_WORD_PROBES slots from VLY_WORD_SLOT
 * on, modulo the slots that there are. */
#define VLY_WORD_PROBES     12
#define VLY_WORD_MIX(x)     ((x) ^ ((x) >> 15))
#define VLY_WORD_SLOT(hash) VLY_WORD_MIX(((hash)[0] ^ ((hash)[1] >> 15)) * 2654435769u)
struct vly_word {
    VLY_U32 hash[2];
    VLY_U32 id; /* VLY_NO_ID: the slot is empty */
};

#define VLY_WORD_TAIL 8 /* tokens of a word in parts, at most */

/* The bytes of a target token as tokens of the draft, as its tokenizer would go on with them. */
struct vly_recoded {
    VLY_U32 n; /* VLY_RECODE_HOST: more than fit, which is for the host */
    VLY_U32 id[VLY_MAX_RECODED];
    VLY_STRUCT(vly_spelling) spelling; /* of these bytes */
};

/* What a block came to. */
struct vly_block_result {
    VLY_U32 n_decided; /* tokens: those accepted, and results.advanced of it; 0: it was not run */
    VLY_U32 n_drafted;
    VLY_U32 rank;      /* results.rank of the first one that was not accepted; 0: there is none */
    VLY_U32 continued; /* 1: the step of the next block was made */
    VLY_U32 drafted[VLY_BLOCK_DRAFT + 1];  /* [n_drafted] as target ids */
    VLY_U32 draft_id[VLY_BLOCK_DRAFT + 1]; /* the same as the draft's own */
};

struct vly_blocks {
    VLY_U32 left;    /* tokens that the text may still grow by; a block never decides more */
    VLY_U32 n_draft; /* drafted tokens of a block at most; 0: there is no draft */
    /* For measuring: the mean number of tokens that a block is to decide, in 65536ths, 0 being as
     * they come; and what of that is left over from the blocks before. */
    VLY_U32 forced, forced_rest;
    /* The draft's last own tokens that it may take back for a word that has them as its parts. */
    VLY_U32 n_tail, tail[VLY_WORD_TAIL];
    VLY_STRUCT(vly_block_result) result[VLY_MAX_AHEAD]; /* of block n at n % VLY_MAX_AHEAD */
};

/* Ends a block and makes the step of the next one: its tokens are those of `base.step`, its picks
 * in `base.results`. The rest is for blocks with a draft. */
struct vly_push_block {
    VLY_STRUCT(vly_push_advance) base;
    VLY_ADDRESS(RefBlocks) blocks;
    VLY_ADDRESS(RefStep) draft_first;   /* the draft's first step, which takes in what it lacks */
    VLY_ADDRESS(RefStep) draft_further; /* and those after it */
    VLY_ADDRESS(RefResults) draft_results;
    VLY_ADDRESS(RefRecoded) recoded;    /* [target id] */
    VLY_ADDRESS(RefSpellings) spelling; /* [draft's own id] */
    VLY_ADDRESS(RefWords) words;        /* [n_words], a power of two; 0: there are none */
    VLY_U32 n_words, n_own;             /* n_own: of `spelling` */
};

#endif

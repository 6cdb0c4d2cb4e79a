/* The paged KV cache of one model. A page holds K and V of 32 tokens of all layers; a sequence
 * holds pages and a count of committed tokens. Rolling back moves the count and gives pages back:
 * nothing is copied. Page layout: shaders/kv.glsl.
 *
 * Full pages can be shared: one that was offered is found again by the tokens that it and all pages
 * before it stand for. It is never written again, and kept after its last holder has left, until
 * its memory is needed; the one that was left longest ago goes first.
 *
 * Memory is taken in slabs of pages as sequences need them, between steps. Where the kernels read
 * through texel views (device type CPU) the pages must lie in one buffer, so there one slab of the
 * greatest size is reserved; its memory is only touched, and so only used, page by page. */
#ifndef VLY_KV_H
#define VLY_KV_H

#include "gpu/gpu.h"
#include "shaders/shared.h"

typedef struct vly_kv vly_kv;

typedef struct {
    uint32_t n_layer, n_head_kv, head_dim;
    bool int8;            /* else f16 */
    uint32_t max_pages;   /* of all sequences together */
    uint32_t max_slots;   /* sequences at a time, <= VLY_MAX_SLOTS */
    uint32_t slot_tokens; /* of one sequence at most */
    uint32_t window;      /* all layers see this many positions, the last ones, at most; 0: all */
} vly_kv_shape;

/* One sequence's part of the cache. */
typedef struct {
    vly_kv *kv;
    uint32_t slot;    /* row of the page table */
    uint32_t n_tok;   /* committed: their K and V are in the pages */
    uint32_t n_pages; /* reserved; those before first_page were given back */
    uint32_t first_page;
    uint32_t n_known;    /* of these from the front: shared, or offered for it */
    uint64_t last_known; /* what the last of them stands for */
} vly_kv_seq;

/* Pages for `n_tok` tokens. */
uint32_t vly_kv_pages_for(uint32_t n_tok);
/* Bytes of a page of this shape, and of one head of a layer in it. */
uint64_t vly_kv_page_bytes(const vly_kv_shape *shape);
uint32_t vly_kv_head_bytes(const vly_kv_shape *shape);
/* Pages that one sequence holds at most. */
uint32_t vly_kv_slot_pages(const vly_kv_shape *shape);

int vly_kv_create(vly_gpu *gpu, const vly_kv_shape *shape, vly_kv **out, vly_error *err);
void vly_kv_destroy(vly_kv *kv);

/* For recording: the page table's device address (rows of vly_kv_table_stride entries), and the
 * buffer that texel views read (NULL where pages lie in several). */
uint64_t vly_kv_table_address(const vly_kv *kv);
uint32_t vly_kv_table_stride(const vly_kv *kv);
const vly_gpu_buffer *vly_kv_view_buffer(const vly_kv *kv);
const vly_kv_shape *vly_kv_get_shape(const vly_kv *kv);

/* Bytes of the pages that sequences hold now, and the most that they ever held. */
uint64_t vly_kv_used_bytes(const vly_kv *kv);
uint64_t vly_kv_peak_bytes(const vly_kv *kv);

/* Pages by what is done with them: used + free = total. */
vly_page_counts vly_kv_count_pages(const vly_kv *kv);

/* Opens an empty sequence. VLY_E_BUSY where all slots are taken. */
int vly_kv_seq_init(vly_kv *kv, vly_kv_seq *out, vly_error *err);
/* Gives everything back. Zeroed sequences are left alone. */
void vly_kv_seq_deinit(vly_kv_seq *seq);

/* Makes sure that positions seq->n_tok .. n_tok - 1 have pages, so that a step of up to
 * VLY_MAX_CHUNK + VLY_MAX_BATCH tokens may write them, and gives back pages that lie before the
 * window of all of them. VLY_E_CONTEXT (beyond slot_tokens), VLY_E_BUSY (all pages are held),
 * VLY_E_DEVICE_MEMORY (the device has none for the first slab); the sequence is then as it was,
 * less such pages. */
int vly_kv_reserve(vly_kv_seq *seq, uint32_t n_tok, vly_error *err);
/* The next `n` positions are written by now, or by a step that is under way, and are right. They
 * must be reserved. */
void vly_kv_commit(vly_kv_seq *seq, uint32_t n);
/* Forgets all tokens from position `n_tok` <= seq->n_tok on, and gives back pages that only they,
 * or positions reserved beyond them, used. Not below vly_kv_oldest, and no page that is known may
 * be among them. */
void vly_kv_truncate(vly_kv_seq *seq, uint32_t n_tok);
/* The same, but what is reserved stays: steps that are under way write there. */
void vly_kv_rewind(vly_kv_seq *seq, uint32_t n_tok);

/* The least number of tokens that the sequence can be cut back to: 0 unless a window has moved on;
 * never more than seq->n_tok was at the last vly_kv_reserve. */
uint32_t vly_kv_oldest(const vly_kv_seq *seq);

/* ---- Sharing ---- */

/* How many pages would be shared by a sequence that begins with ids[0 .. n); *n_held counts those
 * that other sequences hold now. Linear in the pages. */
uint32_t vly_kv_find(const vly_kv *kv, const uint32_t *ids, uint32_t n, uint32_t *n_held);
/* Lets an empty sequence, which will begin with ids[0 .. n), share what there is of it. Returns the
 * tokens that are committed by that: full pages. */
uint32_t vly_kv_share(vly_kv_seq *seq, const uint32_t *ids, uint32_t n);
/* The sequence begins with ids[0 .. n), n <= seq->n_tok, for good, and no step that writes them is
 * under way: others may share the full pages of them. Linear in the pages that are new. */
void vly_kv_offer(vly_kv_seq *seq, const uint32_t *ids, uint32_t n);

#endif

#include "kv/kv.h"

#include "base/log.h"
#include "kv/pages.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SLAB_BYTES (64ull << 20) /* pages are allocated about this much at a time */

struct vly_kv {
    vly_gpu *gpu;
    vly_kv_shape shape;
    uint64_t page_bytes;
    uint32_t max_pages, slab_pages, table_stride;
    vly_gpu_buffer *slab;
    uint32_t n_slabs, max_slabs;
    vly_pages *pages;
    uint32_t n_peak;
    uint32_t *held; /* [max_slots][table_stride]: page numbers of the sequences */
    bool slot_taken[VLY_MAX_SLOTS];
    vly_gpu_buffer table; /* of struct vly_page, [max_slots][table_stride] */
};

uint32_t vly_kv_head_bytes(const vly_kv_shape *shape)
{
    uint32_t values = 2 * VLY_PAGE_TOKENS * shape->head_dim;
    return shape->int8 ? values + 2 * VLY_PAGE_TOKENS * 2 : values * 2;
}

uint64_t vly_kv_page_bytes(const vly_kv_shape *shape)
{
    return (uint64_t)shape->n_layer * shape->n_head_kv * vly_kv_head_bytes(shape);
}

uint32_t vly_kv_pages_for(uint32_t n_tok)
{
    return n_tok / VLY_PAGE_TOKENS + (n_tok % VLY_PAGE_TOKENS != 0);
}

/* Tokens of a sequence that lie in pages at a time, where all layers see `window` positions. */
static uint32_t window_tokens(uint32_t window)
{
    /* Both ends may lie within a page. */
    return window + VLY_MAX_CHUNK + VLY_MAX_BATCH + 2 * VLY_PAGE_TOKENS;
}

uint32_t vly_kv_slot_pages(const vly_kv_shape *shape)
{
    uint32_t held = shape->window ? window_tokens(shape->window) : shape->slot_tokens;
    return vly_kv_pages_for(held < shape->slot_tokens ? held : shape->slot_tokens);
}

static int add_slab(vly_kv *kv, vly_error *err)
{
    int rc = vly_gpu_buffer_create(kv->gpu, kv->slab_pages * kv->page_bytes, VLY_GPU_PAGES,
                                   "KV cache", &kv->slab[kv->n_slabs], err);
    if (rc) return rc;
    uint32_t first = kv->n_slabs++ * kv->slab_pages, left = kv->max_pages - first;
    vly_pages_add(kv->pages, left < kv->slab_pages ? left : kv->slab_pages);
    return 0;
}

int vly_kv_create(vly_gpu *gpu, const vly_kv_shape *shape, vly_kv **out, vly_error *err)
{
    vly_kv *kv = calloc(1, sizeof *kv);
    if (!kv) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the KV cache's tables");
    kv->gpu = gpu;
    kv->shape = *shape;
    kv->page_bytes = vly_kv_page_bytes(shape);
    kv->max_pages = shape->max_pages;
    kv->table_stride = vly_kv_pages_for(shape->slot_tokens);
    bool one_slab = vly_gpu_get_info(gpu)->type == VLY_GPU_CPU;
    uint64_t fit = SLAB_BYTES / kv->page_bytes;
    kv->slab_pages = one_slab || fit > kv->max_pages ? kv->max_pages : fit ? (uint32_t)fit : 1;
    kv->max_slabs = (kv->max_pages + kv->slab_pages - 1) / kv->slab_pages;
    kv->slab = calloc(kv->max_slabs, sizeof *kv->slab);
    kv->held = calloc((size_t)shape->max_slots * kv->table_stride, sizeof *kv->held);
    int rc = 0;
    if (!kv->slab || !kv->held)
        rc = vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the KV cache's tables");
    if (rc == 0) rc = vly_pages_create(kv->max_pages, &kv->pages, err);
    if (rc == 0)
        rc = vly_gpu_buffer_create(
            gpu, (uint64_t)shape->max_slots * kv->table_stride * sizeof(struct vly_page),
            VLY_GPU_STEP, "page table", &kv->table, err);
    if (rc == 0 && one_slab) rc = add_slab(kv, err);
    if (rc) {
        vly_kv_destroy(kv);
        return rc;
    }
    *out = kv;
    return 0;
}

void vly_kv_destroy(vly_kv *kv)
{
    if (!kv) return;
    for (uint32_t i = 0; i < kv->n_slabs; i++) vly_gpu_buffer_destroy(kv->gpu, &kv->slab[i]);
    vly_gpu_buffer_destroy(kv->gpu, &kv->table);
    free(kv->slab);
    vly_pages_destroy(kv->pages);
    free(kv->held);
    free(kv);
}

uint64_t vly_kv_table_address(const vly_kv *kv)
{
    return kv->table.address;
}

uint32_t vly_kv_table_stride(const vly_kv *kv)
{
    return kv->table_stride;
}

const vly_gpu_buffer *vly_kv_view_buffer(const vly_kv *kv)
{
    return kv->max_slabs == 1 && kv->n_slabs == 1 ? &kv->slab[0] : NULL;
}

const vly_kv_shape *vly_kv_get_shape(const vly_kv *kv)
{
    return &kv->shape;
}

uint64_t vly_kv_used_bytes(const vly_kv *kv)
{
    return vly_pages_count(kv->pages).used * kv->page_bytes;
}

uint64_t vly_kv_peak_bytes(const vly_kv *kv)
{
    return kv->n_peak * kv->page_bytes;
}

vly_page_counts vly_kv_count_pages(const vly_kv *kv)
{
    vly_page_counts counts = vly_pages_count(kv->pages);
    counts.free += kv->max_pages - counts.total; /* for which memory is still to be taken */
    counts.total = kv->max_pages;
    return counts;
}

int vly_kv_seq_init(vly_kv *kv, vly_kv_seq *out, vly_error *err)
{
    for (uint32_t i = 0; i < kv->shape.max_slots; i++)
        if (!kv->slot_taken[i]) {
            kv->slot_taken[i] = true;
            *out = (vly_kv_seq){.kv = kv, .slot = i};
            return 0;
        }
    return vly_fail(err, VLY_E_BUSY, "all %u sequences of the KV cache are taken",
                    kv->shape.max_slots);
}

static uint32_t *held_by(const vly_kv_seq *seq)
{
    return seq->kv->held + (size_t)seq->slot * seq->kv->table_stride;
}

/* Gives back the pages beyond the first `n_pages`, the last one first: of what is kept, the ends of
 * texts go before their beginnings. */
static void give_back(vly_kv_seq *seq, uint32_t n_pages)
{
    while (seq->n_pages > n_pages && seq->n_pages > seq->first_page)
        vly_pages_leave(seq->kv->pages, held_by(seq)[--seq->n_pages]);
}

/* Gives back the pages that no token from position n_tok on will see. */
static void give_back_unseen(vly_kv_seq *seq)
{
    uint32_t window = seq->kv->shape.window;
    if (window == 0 || seq->n_tok < window) return;
    uint32_t first = (seq->n_tok + 1 - window) / VLY_PAGE_TOKENS;
    while (seq->first_page < first && seq->first_page < seq->n_pages)
        vly_pages_leave(seq->kv->pages, held_by(seq)[seq->first_page++]);
}

uint32_t vly_kv_oldest(const vly_kv_seq *seq)
{
    return seq->first_page ? seq->first_page * VLY_PAGE_TOKENS + seq->kv->shape.window - 1 : 0;
}

void vly_kv_seq_deinit(vly_kv_seq *seq)
{
    if (!seq->kv) return;
    give_back(seq, 0);
    seq->kv->slot_taken[seq->slot] = false;
    *seq = (vly_kv_seq){0};
}

/* The page that a sequence holds at `index`, for itself and for the kernels. */
static void set_page(vly_kv_seq *seq, uint32_t index, uint32_t page)
{
    vly_kv *kv = seq->kv;
    const vly_gpu_buffer *slab = &kv->slab[page / kv->slab_pages];
    uint64_t offset = page % kv->slab_pages * kv->page_bytes, address = slab->address + offset;
    struct vly_page *table = kv->table.mapped;
    held_by(seq)[index] = page;
    table[(size_t)seq->slot * kv->table_stride + index] =
        (struct vly_page){(uint32_t)address, (uint32_t)(address >> 32), (uint32_t)(offset / 16), 0};
}

static void append_page(vly_kv_seq *seq, uint32_t page)
{
    set_page(seq, seq->n_pages++, page);
    uint32_t used = vly_pages_count(seq->kv->pages).used;
    if (used > seq->kv->n_peak) seq->kv->n_peak = used;
}

/* A page that nobody holds. A device that has no memory for more pages has as many as there are. */
static int take_page(vly_kv *kv, uint32_t *page, vly_error *err)
{
    if (!vly_pages_any_blank(kv->pages) && kv->n_slabs < kv->max_slabs) {
        int rc = add_slab(kv, err);
        if (rc && kv->n_slabs == 0) return rc;
        if (rc) {
            kv->max_slabs = kv->n_slabs;
            kv->max_pages = vly_pages_count(kv->pages).total;
            vly_log(VLY_LOG_WARN, "kv",
                    "the cache stays at %u pages: the device has no more memory", kv->max_pages);
        }
    }
    *page = vly_pages_take(kv->pages);
    if (*page != VLY_NO_PAGE) return 0;
    return vly_fail(err, VLY_E_BUSY, "the KV cache's %u pages are all in use", kv->max_pages);
}

int vly_kv_reserve(vly_kv_seq *seq, uint32_t n_tok, vly_error *err)
{
    vly_kv *kv = seq->kv;
    give_back_unseen(seq);
    uint32_t had = seq->n_pages, need = vly_kv_pages_for(n_tok);
    if (need > kv->table_stride)
        return vly_fail(err, VLY_E_CONTEXT, "%u tokens do not fit a context of %u", n_tok,
                        kv->shape.slot_tokens);
    while (seq->n_pages < need) {
        uint32_t page;
        int rc = take_page(kv, &page, err);
        if (rc) {
            give_back(seq, had);
            return rc;
        }
        append_page(seq, page);
    }
    return 0;
}

void vly_kv_commit(vly_kv_seq *seq, uint32_t n)
{
    assert(seq->n_tok + n <= seq->n_pages * VLY_PAGE_TOKENS);
    seq->n_tok += n;
}

void vly_kv_rewind(vly_kv_seq *seq, uint32_t n_tok)
{
    assert(n_tok <= seq->n_tok && n_tok >= vly_kv_oldest(seq));
    assert(n_tok >= seq->n_known * VLY_PAGE_TOKENS);
    seq->n_tok = n_tok;
}

void vly_kv_truncate(vly_kv_seq *seq, uint32_t n_tok)
{
    vly_kv_rewind(seq, n_tok);
    give_back(seq, vly_kv_pages_for(n_tok));
}

/* ---- Sharing ---- */

uint32_t vly_kv_find(const vly_kv *kv, const uint32_t *ids, uint32_t n, uint32_t *n_held)
{
    uint32_t found = 0;
    uint64_t before = 0;
    *n_held = 0;
    for (; (found + 1) * VLY_PAGE_TOKENS <= n; found++) {
        uint32_t page = vly_pages_find(kv->pages, before, ids + found * VLY_PAGE_TOKENS);
        if (page == VLY_NO_PAGE) break;
        before = vly_pages_content(kv->pages, page);
        *n_held += vly_pages_holders(kv->pages, page) > 0;
    }
    return found;
}

uint32_t vly_kv_share(vly_kv_seq *seq, const uint32_t *ids, uint32_t n)
{
    vly_pages *pages = seq->kv->pages;
    assert(seq->n_pages == 0);
    if (n > seq->kv->shape.slot_tokens) n = seq->kv->shape.slot_tokens;
    while ((seq->n_known + 1) * VLY_PAGE_TOKENS <= n) {
        uint32_t page =
            vly_pages_find(pages, seq->last_known, ids + seq->n_known * VLY_PAGE_TOKENS);
        if (page == VLY_NO_PAGE) break;
        vly_pages_hold(pages, page);
        append_page(seq, page);
        seq->last_known = vly_pages_content(pages, page);
        seq->n_known++;
    }
    seq->n_tok = seq->n_known * VLY_PAGE_TOKENS;
    return seq->n_tok;
}

void vly_kv_offer(vly_kv_seq *seq, const uint32_t *ids, uint32_t n)
{
    vly_pages *pages = seq->kv->pages;
    assert(n <= seq->n_tok);
    if (seq->n_known < seq->first_page) return; /* what came before is gone: nothing can follow */
    while ((seq->n_known + 1) * VLY_PAGE_TOKENS <= n) {
        const uint32_t *tokens = ids + seq->n_known * VLY_PAGE_TOKENS;
        uint32_t own = held_by(seq)[seq->n_known];
        uint32_t same = vly_pages_find(pages, seq->last_known, tokens);
        if (same == VLY_NO_PAGE) {
            vly_pages_name(pages, own, seq->last_known, tokens);
        } else if (same != own) { /* computed by two at once: one page is enough */
            vly_pages_hold(pages, same);
            set_page(seq, seq->n_known, same);
            vly_pages_leave(pages, own);
            own = same;
        }
        seq->last_known = vly_pages_content(pages, own);
        seq->n_known++;
    }
}

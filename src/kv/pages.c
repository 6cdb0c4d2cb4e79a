#include "kv/pages.h"

#include "base/clock.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

typedef struct {
    uint32_t holders;
    uint32_t older, newer; /* among the pages that are kept without a holder */
    uint32_t next;         /* with the same hash */
    uint64_t content;      /* 0: none */
    uint64_t before;       /* the content before it */
    uint32_t tokens[VLY_PAGE_TOKENS];
} page_state;

struct vly_pages {
    page_state *page; /* [max_pages] */
    uint32_t *blank;  /* stack of pages without content or holder */
    uint32_t *bucket; /* [n_buckets], a power of two: the first page of a hash */
    uint32_t n, n_blank, n_kept, n_shared, mask;
    uint32_t oldest, newest; /* kept */
    uint64_t n_contents;     /* ever named */
    uint64_t seed;           /* random, so that no text can be made whose pages all collide */
};

int vly_pages_create(uint32_t max_pages, vly_pages **out, vly_error *err)
{
    uint32_t n_buckets = 1;
    while (n_buckets < max_pages && n_buckets < UINT32_C(1) << 31) n_buckets *= 2;
    vly_pages *p = calloc(1, sizeof *p);
    if (p) {
        p->page = calloc(max_pages, sizeof *p->page);
        p->blank = malloc(((size_t)max_pages + 1) * sizeof *p->blank);
        p->bucket = malloc(n_buckets * sizeof *p->bucket);
    }
    if (!p || !p->page || !p->blank || !p->bucket) {
        vly_pages_destroy(p);
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the tables of %u pages", max_pages);
    }
    memset(p->bucket, 0xff, n_buckets * sizeof *p->bucket);
    p->mask = n_buckets - 1;
    p->oldest = p->newest = VLY_NO_PAGE;
    if (getrandom(&p->seed, sizeof p->seed, GRND_NONBLOCK) != sizeof p->seed)
        p->seed = vly_clock_ns();
    *out = p;
    return 0;
}

void vly_pages_destroy(vly_pages *p)
{
    if (!p) return;
    free(p->page);
    free(p->blank);
    free(p->bucket);
    free(p);
}

void vly_pages_add(vly_pages *p, uint32_t n)
{
    /* Popped in ascending order. */
    for (uint32_t i = n; i-- > 0;) p->blank[p->n_blank++] = p->n + i;
    p->n += n;
}

/* ---- Contents ---- */

static uint32_t *bucket_of(const vly_pages *p, uint64_t before, const uint32_t *tokens)
{
    uint64_t hash =
        XXH3_64bits_withSeed(tokens, VLY_PAGE_TOKENS * sizeof *tokens, p->seed ^ before);
    return &p->bucket[hash & p->mask];
}

uint32_t vly_pages_find(const vly_pages *p, uint64_t before, const uint32_t *tokens)
{
    uint32_t i = *bucket_of(p, before, tokens);
    while (i != VLY_NO_PAGE && (p->page[i].before != before ||
                                memcmp(p->page[i].tokens, tokens, sizeof p->page[i].tokens) != 0))
        i = p->page[i].next;
    return i;
}

void vly_pages_name(vly_pages *p, uint32_t page, uint64_t before, const uint32_t *tokens)
{
    page_state *s = &p->page[page];
    uint32_t *bucket = bucket_of(p, before, tokens);
    assert(s->holders > 0 && s->content == 0);
    s->content = ++p->n_contents;
    s->before = before;
    memcpy(s->tokens, tokens, sizeof s->tokens);
    s->next = *bucket;
    *bucket = page;
}

static void forget(vly_pages *p, uint32_t page)
{
    page_state *s = &p->page[page];
    uint32_t *link = bucket_of(p, s->before, s->tokens);
    while (*link != page) link = &p->page[*link].next;
    *link = s->next;
    s->content = 0;
}

uint64_t vly_pages_content(const vly_pages *p, uint32_t page)
{
    return p->page[page].content;
}

uint32_t vly_pages_holders(const vly_pages *p, uint32_t page)
{
    return p->page[page].holders;
}

/* ---- Holders ---- */

static void unkeep(vly_pages *p, uint32_t page)
{
    page_state *s = &p->page[page];
    *(s->older == VLY_NO_PAGE ? &p->oldest : &p->page[s->older].newer) = s->newer;
    *(s->newer == VLY_NO_PAGE ? &p->newest : &p->page[s->newer].older) = s->older;
    p->n_kept--;
}

static void keep(vly_pages *p, uint32_t page)
{
    page_state *s = &p->page[page];
    s->older = p->newest;
    s->newer = VLY_NO_PAGE;
    *(p->newest == VLY_NO_PAGE ? &p->oldest : &p->page[p->newest].newer) = page;
    p->newest = page;
    p->n_kept++;
}

bool vly_pages_any_blank(const vly_pages *p)
{
    return p->n_blank > 0;
}

uint32_t vly_pages_take(vly_pages *p)
{
    uint32_t page = p->n_blank ? p->blank[--p->n_blank] : p->oldest;
    if (page == VLY_NO_PAGE) return page;
    if (p->page[page].content) {
        unkeep(p, page);
        forget(p, page);
    }
    p->page[page].holders = 1;
    return page;
}

void vly_pages_hold(vly_pages *p, uint32_t page)
{
    page_state *s = &p->page[page];
    if (s->holders == 0) unkeep(p, page);
    if (++s->holders == 2) p->n_shared++;
}

void vly_pages_leave(vly_pages *p, uint32_t page)
{
    page_state *s = &p->page[page];
    assert(s->holders > 0);
    if (s->holders == 2) p->n_shared--;
    if (--s->holders > 0) return;
    if (s->content)
        keep(p, page);
    else
        p->blank[p->n_blank++] = page;
}

vly_page_counts vly_pages_count(const vly_pages *p)
{
    uint32_t n_free = p->n_blank + p->n_kept;
    return (vly_page_counts){
        .used = p->n - n_free, .shared = p->n_shared, .free = n_free, .total = p->n};
}

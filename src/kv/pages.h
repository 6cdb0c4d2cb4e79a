/* Which pages are held, shared, kept and free: bookkeeping without a device. Pages are numbers
 * below max_pages.
 *
 * What a page stands for is its own 32 tokens and all before them. Each content that was ever
 * offered has a number of its own, so (number of the content before, tokens) names a content
 * exactly, and finding one compares tokens: no two contents are ever taken for each other. */
#ifndef VLY_KV_PAGES_H
#define VLY_KV_PAGES_H

#include "base/error.h"
#include "shaders/shared.h"

typedef struct vly_pages vly_pages;

#define VLY_NO_PAGE UINT32_MAX

/* VLY_E_HOST_MEMORY. */
int vly_pages_create(uint32_t max_pages, vly_pages **out, vly_error *err);
void vly_pages_destroy(vly_pages *pages);

/* Adds n pages, which follow those that there are. */
void vly_pages_add(vly_pages *pages, uint32_t n);

/* A page to hold: a free one, else the one that was left longest ago, whose content is forgotten;
 * VLY_NO_PAGE where all are held. */
uint32_t vly_pages_take(vly_pages *pages);
/* Is there one that has no content? */
bool vly_pages_any_blank(const vly_pages *pages);
/* One holder less: with a content the page is kept when the last leaves, else it is free. */
void vly_pages_leave(vly_pages *pages, uint32_t page);

/* The page of a content: the 32 tokens after content `before` (0: at the beginning of a text), or
 * VLY_NO_PAGE. */
uint32_t vly_pages_find(const vly_pages *pages, uint64_t before, const uint32_t *tokens);
/* One holder more of a page that was found. */
void vly_pages_hold(vly_pages *pages, uint32_t page);
/* The content of a page; 0: none that is known. */
uint64_t vly_pages_content(const vly_pages *pages, uint32_t page);
uint32_t vly_pages_holders(const vly_pages *pages, uint32_t page);
/* A held page without content has that of `tokens` after `before` from now on; no page has it yet.
 */
void vly_pages_name(vly_pages *pages, uint32_t page, uint64_t before, const uint32_t *tokens);

/* total: those added. */
vly_page_counts vly_pages_count(const vly_pages *pages);

#endif

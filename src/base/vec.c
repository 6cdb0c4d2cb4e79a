#include "base/vec.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

/* Room for small arrays is made at once. */
#define LEAST_BYTES 256

/* Makes room for `need` elements of `size` bytes; doubles, so that appending is linear in all. */
static int grow(void **data, size_t *cap, size_t need, size_t size)
{
    if (need <= *cap) return 0;
    size_t cap_new = *cap ? *cap : LEAST_BYTES / size;
    while (cap_new < need) {
        if (cap_new > SIZE_MAX / 2 / size) return VLY_E_HOST_MEMORY;
        cap_new *= 2;
    }
    void *p = realloc(*data, cap_new * size);
    if (!p) return VLY_E_HOST_MEMORY;
    *data = p;
    *cap = cap_new;
    return 0;
}

int vly_ids_push(vly_ids *ids, uint32_t id)
{
    return vly_ids_append(ids, &id, 1);
}

int vly_ids_reserve(vly_ids *ids, size_t n)
{
    if (n > SIZE_MAX - ids->len) return VLY_E_HOST_MEMORY;
    return grow((void **)&ids->data, &ids->cap, ids->len + n, sizeof *ids->data);
}

int vly_ids_append(vly_ids *ids, const uint32_t *data, size_t n)
{
    if (n == 0) return 0;
    int rc = vly_ids_reserve(ids, n);
    if (rc) return rc;
    memcpy(ids->data + ids->len, data, n * sizeof *data);
    ids->len += n;
    return 0;
}

int vly_text_reserve(vly_text *text, size_t n)
{
    if (n >= SIZE_MAX - text->len) return VLY_E_HOST_MEMORY;
    return grow((void **)&text->data, &text->cap, text->len + n + 1, 1);
}

int vly_text_append(vly_text *text, const void *data, size_t n)
{
    int rc = vly_text_reserve(text, n);
    if (rc) return rc;
    if (n) memcpy(text->data + text->len, data, n);
    text->len += n;
    text->data[text->len] = '\0';
    return 0;
}

void vly_ids_free(vly_ids *ids)
{
    free(ids->data);
    *ids = (vly_ids){0};
}

void vly_text_free(vly_text *text)
{
    free(text->data);
    *text = (vly_text){0};
}

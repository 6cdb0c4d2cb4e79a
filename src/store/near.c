#include "store/near.h"

#include <string.h>
#include <strings.h>

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static size_t min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t distance(const char *a, size_t n_a, const char *b, size_t n_b)
{
    size_t row[VLY_MAX_NEAR_BYTES + 1]; /* distances of a's first i letters to b's first j */
    if (n_a > VLY_MAX_NEAR_BYTES || n_b > VLY_MAX_NEAR_BYTES) return SIZE_MAX;
    for (size_t j = 0; j <= n_b; j++) row[j] = j;
    for (size_t i = 1; i <= n_a; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            size_t changed = diagonal + (lower(a[i - 1]) != lower(b[j - 1]));
            diagonal = row[j];
            row[j] = min(changed, 1 + min(row[j], row[j - 1]));
        }
    }
    return row[n_b];
}

size_t vly_name_distance(const char *a, const char *b)
{
    return distance(a, strlen(a), b, strlen(b));
}

/* The shortest of the distances to the whole name, to it without a tag, and to the model alone,
 * with and without a tag. */
static size_t distance_to_entry(const char *name, const char *entry)
{
    size_t n = strlen(name), n_all = strlen(entry), best;
    const char *slash = strrchr(entry, '/'), *model = slash ? slash + 1 : entry;
    size_t n_prefix = (size_t)(model - entry), n_model = strcspn(model, ":");
    best = distance(name, n, entry, n_all);
    best = min(best, distance(name, n, entry, n_prefix + n_model));
    best = min(best, distance(name, n, model, n_all - n_prefix));
    return min(best, distance(name, n, model, n_model));
}

size_t vly_store_nearest(const vly_store_list *list, const char *name, size_t n,
                         const vly_store_entry **near)
{
    size_t n_near = 0, distances[16], limit = 1 + strlen(name) / 3;
    if (n > sizeof distances / sizeof *distances) n = sizeof distances / sizeof *distances;
    for (size_t i = 0; i < list->n; i++) {
        const vly_store_entry *entry = &list->entries[i];
        size_t d = distance_to_entry(name, entry->name);
        if (d > limit && (strlen(name) < 3 || !strcasestr(entry->name, name))) continue;
        d = min(d, limit);
        /* Kept in order; of equals the one that was found first is ahead. */
        size_t at = n_near;
        while (at > 0 && distances[at - 1] > d) at--;
        if (at >= n) continue;
        if (n_near < n) n_near++;
        memmove(near + at + 1, near + at, (n_near - at - 1) * sizeof *near);
        memmove(distances + at + 1, distances + at, (n_near - at - 1) * sizeof *distances);
        near[at] = entry;
        distances[at] = d;
    }
    return n_near;
}

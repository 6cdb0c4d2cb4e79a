#include "spec/recode.h"

#include "base/workers.h"
#include "spec/words.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define PART 512u /* tokens that a worker takes at a time */

typedef struct {
    const vly_tokenizer *target, *draft;
    uint32_t n;
    struct vly_recoded *rows;
    atomic_bool short_of_memory; /* the only way to fail: the text of a token is short */
} recoding;

static int recode(const recoding *r, uint32_t id, vly_encode_work *work, vly_text *bytes,
                  vly_ids *ids)
{
    vly_error err;
    bytes->len = ids->len = 0;
    int rc = vly_tokenizer_decode(r->target, &id, 1, false, bytes);
    if (rc == 0)
        rc = vly_tokenizer_encode_with(r->draft, work, bytes->data, bytes->len, VLY_ENCODE_CONTINUE,
                                       ids, &err);
    if (rc) return rc;
    bool fits = ids->len <= VLY_MAX_RECODED;
    r->rows[id] = (struct vly_recoded){
        .n = fits ? (uint32_t)ids->len : VLY_RECODE_HOST,
        .spelling = vly_words_spell(vly_tokenizer_bytes(r->target, id)),
    };
    if (fits && ids->len) memcpy(r->rows[id].id, ids->data, ids->len * sizeof *ids->data);
    return 0;
}

static void recode_part(void *arg, uint32_t worker, uint64_t part)
{
    recoding *r = arg;
    vly_text bytes = {0};
    vly_ids ids = {0};
    vly_encode_work *work = vly_encode_work_create();
    uint32_t first = (uint32_t)part * PART, end = r->n - first < PART ? r->n : first + PART;
    (void)worker;
    for (uint32_t id = first; id < end; id++)
        if (!work || recode(r, id, work, &bytes, &ids)) atomic_store(&r->short_of_memory, true);
    vly_encode_work_destroy(work);
    vly_text_free(&bytes);
    vly_ids_free(&ids);
}

int vly_recode_all(const vly_tokenizer *target, uint32_t n_target, const vly_tokenizer *draft,
                   struct vly_recoded **out, vly_error *err)
{
    recoding r = {.target = target, .draft = draft, .n = n_target};
    vly_workers *workers = NULL;
    int rc = vly_workers_create(0, &workers, err);
    if (rc) return rc;
    r.rows = malloc((n_target + (size_t)1) * sizeof *r.rows);
    if (r.rows) vly_workers_run(workers, (n_target + (uint64_t)PART - 1) / PART, recode_part, &r);
    vly_workers_destroy(workers);
    if (!r.rows || atomic_load(&r.short_of_memory)) {
        free(r.rows);
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory to map %u tokens to the draft's",
                        n_target);
    }
    *out = r.rows;
    return 0;
}

int vly_recode_same(uint32_t n_target, uint32_t n_shared, struct vly_recoded **out, vly_error *err)
{
    struct vly_recoded *rows = malloc((n_target + (size_t)1) * sizeof *rows);
    if (!rows)
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory to map %u tokens to the draft's",
                        n_target);
    for (uint32_t id = 0; id < n_target; id++)
        rows[id] = (struct vly_recoded){.n = id < n_shared, .id = {id}};
    *out = rows;
    return 0;
}

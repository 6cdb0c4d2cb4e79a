/* The profile in the cache: one file for each target, draft, way of keeping keys and values, device
 * and driver. */
#include "engine/engine_internal.h"

#include "base/cache_file.h"
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static const char magic[8] = "vlyprof3";

static void add(XXH3_state_t *hash, const void *data, size_t n_bytes)
{
    XXH3_64bits_update(hash, data, n_bytes);
}

/* What tells a model from another that takes other times or picks other tokens. */
static void add_model(XXH3_state_t *hash, const vly_model *model)
{
    const vly_model_config *c = vly_model_get_config(model);
    const vly_model_memory *m = vly_model_get_memory(model);
    uint32_t shape[] = {c->n_layer,  c->dim,    c->n_head,  c->n_head_kv,
                        c->head_dim, c->ff_dim, c->n_vocab, vly_model_head_rows(model)};
    add(hash, c->name, strlen(c->name) + 1);
    add(hash, shape, sizeof shape);
    add(hash, &m->weights, sizeof m->weights);
    add(hash, &m->kv_per_page, sizeof m->kv_per_page);
}

static void find_path(const vly_engine *e, char path[VLY_CACHE_PATH_BYTES])
{
    const vly_gpu_info *info = vly_gpu_get_info(e->gpu);
    uint32_t device[] = {info->vendor_id, info->device_id, info->driver_version};
    char name[64];
    path[0] = '\0';
    XXH3_state_t *hash = XXH3_createState();
    if (!hash) return;
    XXH3_64bits_reset(hash);
    add(hash, VLY_VERSION, sizeof VLY_VERSION);
    add(hash, device, sizeof device);
    add(hash, info->device_uuid, sizeof info->device_uuid);
    add_model(hash, e->target);
    if (e->draft) add_model(hash, e->draft);
    snprintf(name, sizeof name, "profile-%016" PRIx64 ".bin", (uint64_t)XXH3_64bits_digest(hash));
    XXH3_freeState(hash);
    vly_cache_path(name, path);
}

void vly_engine_load_profile(vly_engine *e)
{
    char path[VLY_CACHE_PATH_BYTES];
    size_t n_bytes;
    find_path(e, path);
    void *data = vly_cache_read(path, magic, sizeof e->profile, &n_bytes);
    if (data && vly_profile_load(&e->profile, data, n_bytes))
        vly_log(VLY_LOG_DEBUG, "governor", "profile from %s", path);
    free(data);
}

void vly_engine_save_profile(const vly_engine *e)
{
    char path[VLY_CACHE_PATH_BYTES];
    if (e->n_calibrated == 0) return;
    find_path(e, path);
    if (path[0] && !vly_cache_write(path, magic, &e->profile, sizeof e->profile))
        vly_log(VLY_LOG_INFO, "governor", "cannot write %s: %s", path, strerror(errno));
}

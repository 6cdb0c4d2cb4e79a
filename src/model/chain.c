/* Chained steps (shaders/chain.glsl): tried when a model is loaded, with bounded waits, and kept
 * only where they work and are faster than barriers. */
#include "base/log.h"
#include "model/model_internal.h"

#include <stdlib.h>

#define RUNS 9 /* of each kind; the median counts */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Device time of the layers over one token's worth of weights, in ns: over no token, so that
 * nothing is written and no page is read. */
static int measure(vly_model *m, bool chained, double *ns, vly_error *err)
{
    vly_gpu_commands *layers = NULL, *mark[2] = {NULL, NULL};
    double times[RUNS];
    m->geometry.chained = chained;
    int rc = vly_gpu_commands_create(m->gpu, "trial of chained steps", &layers, err);
    if (rc == 0) rc = vly_forward_record(m, VLY_PASS_LAYERS, 1, layers, NULL, err);
    if (rc == 0) rc = vly_gpu_commands_end(layers, err);
    for (int i = 0; rc == 0 && i < 2; i++) {
        rc = vly_gpu_commands_create(m->gpu, "time mark", &mark[i], err);
        if (rc) break;
        vly_gpu_cmd_timestamp(mark[i], 0);
        rc = vly_gpu_commands_end(mark[i], err);
    }
    for (int i = 0; rc == 0 && i < RUNS; i++) {
        vly_gpu_commands *const list[3] = {mark[0], layers, mark[1]};
        uint64_t ticket, t[2] = {0, 0};
        rc = vly_gpu_submit(m->gpu, list, 3, NULL, NULL, &ticket, err);
        if (rc == 0) rc = vly_gpu_wait(m->gpu, ticket, err);
        for (int j = 0; rc == 0 && j < 2; j++) rc = vly_gpu_commands_times(mark[j], 1, &t[j], err);
        times[i] = (double)(t[1] - t[0]);
    }
    if (layers) vly_gpu_commands_destroy(layers);
    for (int i = 0; i < 2; i++)
        if (mark[i]) vly_gpu_commands_destroy(mark[i]);
    if (rc) return rc;
    qsort(times, RUNS, sizeof *times, compare);
    *ns = times[RUNS / 2];
    return 0;
}

int vly_chain_choose(vly_model *m, vly_error *err)
{
    struct vly_step *step = m->step[VLY_STEP_BUFFER_DECODE].mapped;
    double barriers, chained;
    if (!m->geometry.tile_form || vly_gpu_get_info(m->gpu)->timestamp_ns <= 0) return 0;
    step->n_tok = 0;
    int rc = measure(m, false, &barriers, err);
    if (rc == 0) rc = measure(m, true, &chained, err);
    if (rc) return rc;
    bool stalled = step->stalled != 0;
    step->stalled = 0;
    m->geometry.chained = !stalled && chained < barriers;
    vly_log(VLY_LOG_INFO, "model", "%s: layers take %.0f us with barriers, %.0f us chained%s: %s",
            m->config.name, barriers * 1e-3, chained * 1e-3, stalled ? " (stalled)" : "",
            m->geometry.chained ? "chained" : "barriers");
    return 0;
}

bool vly_model_stalled(const vly_model *m)
{
    for (int i = 0; i < VLY_N_STEP_BUFFERS; i++)
        if (((const struct vly_step *)m->step[i].mapped)->stalled) return true;
    return false;
}

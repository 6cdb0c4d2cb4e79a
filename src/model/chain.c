/* Chained steps (shaders/chain.glsl): tried when a model is loaded, with bounded waits, and kept
 * only where they work and are faster than barriers. */
#include "base/log.h"
#include "model/model_internal.h"

#define RUNS                                                                                       \
    12 /* of each kind, in turns, so that a clock that rises favours neither; the fastest counts   \
        */

typedef struct {
    vly_gpu_commands *layers[2]; /* with barriers, chained */
    vly_gpu_commands *mark[2];   /* time marks before and behind */
} trial;

static int record(vly_model *m, trial *t, vly_error *err)
{
    int rc = 0;
    for (int i = 0; rc == 0 && i < 2; i++) {
        m->geometry.chained = i == 1;
        rc = vly_gpu_commands_create(m->gpu, "trial of chained steps", &t->layers[i], err);
        if (rc == 0) rc = vly_forward_record(m, VLY_PASS_LAYERS, 1, t->layers[i], NULL, err);
        if (rc == 0) rc = vly_gpu_commands_end(t->layers[i], err);
        if (rc == 0) rc = vly_gpu_commands_create(m->gpu, "time mark", &t->mark[i], err);
        if (rc) break;
        vly_gpu_cmd_timestamp(t->mark[i], 0);
        rc = vly_gpu_commands_end(t->mark[i], err);
    }
    m->geometry.chained = false;
    return rc;
}

/* Device time in ns of the layers over no token: they read all weights, write nothing and touch no
 * page. */
static int run(vly_model *m, const trial *t, int kind, uint64_t *ns, vly_error *err)
{
    vly_gpu_commands *const list[3] = {t->mark[0], t->layers[kind], t->mark[1]};
    uint64_t ticket, at[2] = {0, 0};
    int rc = vly_gpu_submit(m->gpu, list, 3, NULL, NULL, &ticket, err);
    if (rc == 0) rc = vly_gpu_wait(m->gpu, ticket, err);
    for (int i = 0; rc == 0 && i < 2; i++) rc = vly_gpu_commands_times(t->mark[i], 1, &at[i], err);
    *ns = at[1] - at[0];
    return rc;
}

int vly_chain_choose(vly_model *m, vly_error *err)
{
    struct vly_step *step = m->step[VLY_STEP_BUFFER_DECODE].mapped;
    uint64_t best[2] = {UINT64_MAX, UINT64_MAX};
    trial t = {{NULL, NULL}, {NULL, NULL}};
    if (!m->geometry.tile_form || vly_gpu_get_info(m->gpu)->timestamp_ns <= 0) return 0;
    step->n_tok = 0;
    int rc = record(m, &t, err);
    for (int i = 0; rc == 0 && i < 2 * RUNS && !step->stalled; i++) {
        uint64_t ns;
        rc = run(m, &t, i % 2, &ns, err);
        if (ns < best[i % 2]) best[i % 2] = ns;
    }
    for (int i = 0; i < 2; i++) {
        if (t.layers[i]) vly_gpu_commands_destroy(t.layers[i]);
        if (t.mark[i]) vly_gpu_commands_destroy(t.mark[i]);
    }
    if (rc) return rc;
    bool stalled = step->stalled != 0;
    step->stalled = 0;
    m->geometry.chained = !stalled && best[1] < best[0];
    vly_log(VLY_LOG_INFO, "model", "%s: layers take %.0f us with barriers, %.0f us chained%s: %s",
            m->config.name, (double)best[0] * 1e-3, (double)best[1] * 1e-3,
            stalled ? " (stalled)" : "", m->geometry.chained ? "chained" : "barriers");
    return 0;
}

bool vly_model_stalled(const vly_model *m)
{
    for (int i = 0; i < VLY_N_STEP_BUFFERS; i++)
        if (((const struct vly_step *)m->step[i].mapped)->stalled) return true;
    return false;
}

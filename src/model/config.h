/* The shape of a model, read from a GGUF file's metadata. */
#ifndef VLY_MODEL_CONFIG_H
#define VLY_MODEL_CONFIG_H

#include "base/error.h"
#include "gguf/gguf.h"
#include "model/arch.h"
#include "model/rope.h"

#define VLY_MAX_LAYERS 1024

typedef struct {
    vly_arch arch;
    char name[128]; /* general.name, else the file's name */
    uint32_t n_layer;
    uint32_t dim;       /* width of the residual stream */
    uint32_t n_head;    /* query heads */
    uint32_t n_head_kv; /* KV heads; divides n_head */
    uint32_t head_size; /* numbers of a head: even, 2..256 */
    uint32_t head_dim;  /* the same on the device, a multiple of 16: behind them are zeros */
    uint32_t ff_dim;
    uint32_t n_vocab; /* rows of the head */
    uint32_t n_ctx;   /* tokens that it was made for */
    vly_rope rope;
    float norm_epsilon;
    bool tied_head;  /* the embedding is also the head */
    uint32_t biases; /* bit 1 << vly_tensor_id: all layers have this bias */
    uint32_t window; /* the positions that a windowed layer sees, its own included; 0: no window */
    uint8_t windowed[VLY_MAX_LAYERS / 8]; /* bit i % 8 of [i / 8]: is layer i windowed? */
} vly_model_config;

/* Reads and checks. `described`, where not NULL, is an architecture beside those of arch.def, which
 * it comes before. VLY_E_UNSUPPORTED (an architecture, head size or RoPE scaling that Volley does
 * not run: names it and those that it does), VLY_E_FORMAT (missing or inconsistent keys). */
int vly_model_config_read(const vly_gguf *gguf, const vly_arch *described, vly_model_config *out,
                          vly_error *err);

/* The same, and every tensor (vly_tensors_find): what can be known of a file without a device. */
int vly_model_check(const vly_gguf *gguf, const vly_arch *described, vly_model_config *out,
                    vly_error *err);

static inline bool vly_config_has_bias(const vly_model_config *c, vly_tensor_id id)
{
    return c->biases >> id & 1;
}

/* Positions that a layer sees, its own included; 0: all. */
static inline uint32_t vly_config_window(const vly_model_config *c, uint32_t layer)
{
    return c->windowed[layer / 8] >> layer % 8 & 1 ? c->window : 0;
}

/* Is there no layer that sees all positions? */
bool vly_config_all_windowed(const vly_model_config *c);

#endif

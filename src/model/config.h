/* The shape of a model, read from a GGUF file's metadata. */
#ifndef VLY_MODEL_CONFIG_H
#define VLY_MODEL_CONFIG_H

#include "base/error.h"
#include "gguf/gguf.h"

typedef struct {
    char arch[32];  /* general.architecture */
    char name[128]; /* general.name, else the file's name */
    uint32_t n_layer;
    uint32_t dim;       /* width of the residual stream */
    uint32_t n_head;    /* query heads */
    uint32_t n_head_kv; /* KV heads; divides n_head */
    uint32_t head_dim;  /* a multiple of 16, 16..256 */
    uint32_t ff_dim;
    uint32_t n_vocab; /* rows of the head */
    uint32_t n_ctx;   /* tokens that it was made for */
    float rope_base;
    float norm_epsilon;
    bool tied_head; /* the embedding is also the head */
} vly_model_config;

/* Reads and checks. VLY_E_UNSUPPORTED (an architecture, head size or RoPE scaling that Volley does
 * not run: names it and those that it does), VLY_E_FORMAT (missing or inconsistent keys). */
int vly_model_config_read(const vly_gguf *gguf, vly_model_config *out, vly_error *err);

#endif

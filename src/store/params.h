/* The parameters that a model's publisher recommends: the "params" layer of Ollama's store. */
#ifndef VLY_STORE_PARAMS_H
#define VLY_STORE_PARAMS_H

#include "base/error.h"

typedef struct {
    vly_sampling sampling; /* vly_sampling_default where nothing is recommended */
    uint32_t n_ctx;        /* 0: nothing */
    uint32_t max_tokens;   /* UINT32_MAX: no limit, or nothing */
    char *stop[VLY_MAX_STOP];
    uint32_t n_stop;
} vly_store_params;

/* No recommendation at all. */
vly_store_params vly_store_params_default(void);

/* Reads `n` bytes of JSON. What Volley has no use for is passed over, and so is, with a warning, a
 * value of a wrong type or range. VLY_E_FORMAT (no JSON object), VLY_E_HOST_MEMORY. *out is to be
 * deinitialised in any case. */
int vly_store_params_parse(const char *text, size_t n, vly_store_params *out, vly_error *err);
void vly_store_params_deinit(vly_store_params *params);

#endif

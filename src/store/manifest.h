/* Manifests of Ollama's store: JSON that says which blobs make a model. */
#ifndef VLY_STORE_MANIFEST_H
#define VLY_STORE_MANIFEST_H

#include "base/error.h"

#define VLY_MAX_MANIFEST_BYTES (1u << 20) /* and of each layer but the model itself */

/* The layers that Volley knows. */
typedef enum {
    VLY_LAYER_MODEL,    /* a GGUF file */
    VLY_LAYER_ADAPTER,  /* changes its weights */
    VLY_LAYER_TEMPLATE, /* of a chat, in Go's template language */
    VLY_LAYER_SYSTEM,   /* the system message */
    VLY_LAYER_PARAMS,   /* JSON: temperature and so on */
    VLY_N_LAYERS
} vly_layer_kind;

typedef struct {
    char digest[64 + 1]; /* SHA-256 in hexadecimal; empty: there is no such layer */
    uint64_t n_bytes;
} vly_layer;

typedef struct {
    vly_layer layers[VLY_N_LAYERS];
} vly_manifest;

/* Reads `n` bytes of JSON. Layers of other media types are passed over. VLY_E_FORMAT (what is no
 * manifest, a digest or size that is none, no model), VLY_E_UNSUPPORTED (an adapter, a model in
 * several layers), VLY_E_HOST_MEMORY. */
int vly_manifest_parse(const char *text, size_t n, vly_manifest *out, vly_error *err);

#endif

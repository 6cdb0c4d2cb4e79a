/* What the name of a synthetic model says: its shape, and the format of each matrix. */
#ifndef VLY_GGUF_SYNTHETIC_SHAPE_H
#define VLY_GGUF_SYNTHETIC_SHAPE_H

#include "base/error.h"
#include "gguf/formats.h"

typedef struct {
    const char *arch;
    uint32_t dim, n_layer, n_head, n_head_kv, head_dim, ff_dim, n_vocab, n_ctx;
    float rope_base;
    char family; /* of the vocabulary */
    bool tied_head;
    vly_format_id base;   /* of most matrices */
    vly_format_id better; /* of those that quantisation hurts most */
} vly_synthetic_shape;

typedef enum {
    VLY_SYNTHETIC_EMBED,
    VLY_SYNTHETIC_V,
    VLY_SYNTHETIC_DOWN,
    VLY_SYNTHETIC_HEAD,
    VLY_SYNTHETIC_OTHER
} vly_synthetic_role;

#define VLY_SYNTHETIC_MIN_VOCAB 260u /* three control tokens, 256 bytes and a word */

/* Reads "SHAPE:FORMAT" (synthetic.h). VLY_E_INVALID names what there is. */
int vly_synthetic_shape_read(const char *name, vly_synthetic_shape *out, vly_error *err);

/* The format of a matrix of `columns` in layer `layer` (of the matrices in layers). */
const vly_format *vly_synthetic_format(const vly_synthetic_shape *shape, vly_synthetic_role role,
                                       uint32_t layer, uint32_t columns);

#endif

/* The tensors of a model file, found by the names of its architecture and checked: all that are
 * needed are there, of the shapes that the metadata says and formats that can be computed with, and
 * there are no others. */
#ifndef VLY_MODEL_TENSORS_H
#define VLY_MODEL_TENSORS_H

#include "model/config.h"

/* By vly_tensor_id; NULL where the model has none. */
typedef struct {
    const vly_gguf_tensor *weight[VLY_N_TENSORS], *bias[VLY_N_TENSORS];
} vly_tensor_set;

typedef struct {
    vly_tensor_set model;  /* what no layer has */
    vly_tensor_set *layer; /* [n_layer]: what each layer has */
} vly_tensors;

/* Points into `gguf`. Errors: VLY_E_FORMAT (tensors that are missing, unexpected or of another
 * shape: names them), VLY_E_UNSUPPORTED (a format: names the tensor and the formats that work),
 * VLY_E_HOST_MEMORY. */
int vly_tensors_find(const vly_gguf *gguf, const vly_model_config *config, vly_tensors *out,
                     vly_error *err);
void vly_tensors_deinit(vly_tensors *tensors);

#endif

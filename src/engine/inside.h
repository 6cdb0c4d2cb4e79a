/* The parts of an engine, for measuring them alone while no sequence runs. */
#ifndef VLY_ENGINE_INSIDE_H
#define VLY_ENGINE_INSIDE_H

#include "model/model.h"
#include "volley.h"

vly_gpu *vly_engine_gpu(vly_engine *engine);
vly_model *vly_engine_target(vly_engine *engine);
vly_model *vly_engine_draft(vly_engine *engine); /* NULL without one */

#endif

/* What the drafting methods are called and need, apart from what makes them. */
#include "volley.h"

static const struct {
    const char *name;
    vly_draft_model_use model_use;
    uint32_t default_max;
} methods[] = {
#define VLY_DRAFT_METHOD(id, name, create, model_use, default_max, summary)                        \
    [VLY_DRAFT_##id] = {name, VLY_MODEL_##model_use, default_max},
#include "drafts/methods.def"
#undef VLY_DRAFT_METHOD
};

const char *vly_draft_method_name(vly_draft_method method)
{
    return (size_t)method < sizeof methods / sizeof *methods ? methods[method].name : NULL;
}

vly_draft_model_use vly_draft_method_model_use(vly_draft_method method)
{
    if (method == VLY_DRAFT_DEFAULT) method = VLY_DRAFT_AUTO;
    return vly_draft_method_name(method) ? methods[method].model_use : VLY_MODEL_UNUSED;
}

uint32_t vly_draft_method_default_max(vly_draft_method method)
{
    if (method == VLY_DRAFT_DEFAULT) method = VLY_DRAFT_AUTO;
    return vly_draft_method_name(method) ? methods[method].default_max : 0;
}

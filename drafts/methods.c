/* The table of drafting methods. */
#include "drafts/draft.h"

static const struct {
    const char *name;
    vly_draft_create_fn *create;
    vly_draft_model_use model_use;
} methods[] = {
#define VLY_DRAFT_METHOD(id, name, create, model_use, summary)                                     \
    [VLY_DRAFT_##id] = {name, create, VLY_MODEL_##model_use},
#include "drafts/methods.def"
#undef VLY_DRAFT_METHOD
};

int vly_draft_create_none(const vly_draft_source *source, vly_draft **out, vly_error *err)
{
    (void)source, (void)err;
    *out = NULL;
    return 0;
}

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
    return method == VLY_DRAFT_DEFAULT || method == VLY_DRAFT_AUTO ? VLY_MAX_DRAFT : 4;
}

int vly_draft_check(vly_draft_method method, bool has_model, vly_error *err)
{
    const char *name = vly_draft_method_name(method);
    if (!name) return vly_fail(err, VLY_E_INVALID, "there is no drafting method %d", (int)method);
    if (methods[method].model_use == VLY_MODEL_NEEDED && !has_model)
        return vly_fail(err, VLY_E_INVALID,
                        "drafting method '%s' needs a draft model, and none is loaded", name);
    return 0;
}

int vly_draft_create(vly_draft_method method, const vly_draft_source *source, vly_draft **out,
                     vly_error *err)
{
    int rc = vly_draft_check(method, source->model != NULL, err);
    return rc ? rc : methods[method].create(source, out, err);
}

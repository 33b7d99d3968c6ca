/* BERT's masking (Devlin et al. 2018). */
#include "mask.h"

#include "core/rng.h"

void dt_mask_tokens(const dt_mask *m, uint64_t epoch, int64_t sample, int64_t n, int32_t *token,
                    int32_t *label) {
    const uint64_t key = dt_rng_key(m->seed, DT_RNG_MASK, epoch);
    for (int64_t i = 0; i < n; i++) {
        const dt_u32x4 draw = dt_philox(key, (uint64_t)sample, (uint64_t)i);
        const float what = dt_u01(draw.v[1]);
        label[i] = -1;
        if (token[i] == m->end || !(dt_u01(draw.v[0]) < m->share)) continue;
        label[i] = token[i];
        if (what < m->random)
            token[i] = (int32_t)((uint64_t)draw.v[2] * (uint64_t)m->n_vocab >> 32);
        else if (!(what < m->random + m->keep))
            token[i] = m->token;
    }
}

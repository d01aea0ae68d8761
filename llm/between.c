/* What stands between the products of a layer, for llm/between.py: each a single pass. */

#include "vectors.h"

/* x (rows, width) fp32 becomes x + added (bf16, or null), and y (bf16) its root mean square
   normalisation times the weights. */
void normalize(float *x, const uint16_t *added, const float *weights, uint16_t *y, float epsilon,
               int64_t rows, int64_t width, int64_t threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (rows > 1)
    for (int64_t r = 0; r < rows; r++) {
        float *row = x + r * width;
        vector squares = {0};
        for (int64_t d = 0; d < width; d += LANES) {
            vector here = load_floats(row + d);
            if (added) {
                here += load_bf16(added + r * width + d);
                memcpy(row + d, &here, sizeof here);
            }
            squares += here * here;
        }
        const float scale = 1.0f / sqrtf(added_up(squares) / width + epsilon);
        for (int64_t d = 0; d < width; d += LANES)
            store_bf16(y + r * width + d, load_floats(row + d) * scale * load_floats(weights + d));
    }
}

/* both: (rows, 2 hidden) -> y: (rows, hidden), SiLU of the first half times the second. */
void gate(const uint16_t *both, uint16_t *y, int64_t rows, int64_t hidden, int64_t threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (rows > 1)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t f = 0; f < hidden; f += LANES) {
            const vector x = load_bf16(both + 2 * r * hidden + f);
            const vector up = load_bf16(both + (2 * r + 1) * hidden + f);
            const whole below = x < 0.0f;
            const vector small = power((vector)((below & (whole)x) | (~below & (whole)-x)));
            const vector one = small * 0 + 1.0f;
            const vector share = (vector)((below & (whole)small) | (~below & (whole)one));
            store_bf16(y + r * hidden + f, x * share / (one + small) * up);
        }
}

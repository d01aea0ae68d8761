/* Products in bf16, for llm/products.py: needs instructions that add up pairs of products of bf16
   (AVX512 BF16). Each sum is added up in one order, so a row is the same whatever rows are computed
   beside it. */

#include <immintrin.h>

#include "vectors.h"

#ifndef __AVX512BF16__
#error "this processor cannot add up products of bf16"
#endif

#define BLOCK 32 /* outputs that are worked out at once */
#define ROWS 12  /* rows, too */

static inline __attribute__((always_inline)) void block(
    const int rows, const uint16_t *x, const uint16_t *weights, const float *bias, uint16_t *y,
    int64_t inputs, int64_t outputs) {
    __m512 sums[ROWS][2];
    for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
    for (int64_t k = 0; k < inputs; k += 2) {
        const __m512bh a = (__m512bh)_mm512_loadu_si512(weights + k * BLOCK);
        const __m512bh b = (__m512bh)_mm512_loadu_si512(weights + k * BLOCK + 2 * LANES);
        for (int r = 0; r < rows; r++) {
            int32_t two;
            memcpy(&two, x + r * inputs + k, 4);
            const __m512bh same = (__m512bh)_mm512_set1_epi32(two);
            sums[r][0] = _mm512_dpbf16_ps(sums[r][0], same, a);
            sums[r][1] = _mm512_dpbf16_ps(sums[r][1], same, b);
        }
    }
    for (int r = 0; r < rows; r++) {
        float sum[BLOCK];
        _mm512_storeu_ps(sum, sums[r][0]);
        _mm512_storeu_ps(sum + LANES, sums[r][1]);
        for (int n = 0; n < BLOCK; n++)
            y[r * outputs + n] = shorten_bf16(bias ? sum[n] + bias[n] : sum[n]);
    }
}

/* x: (rows, inputs); weights: (outputs / BLOCK, inputs / 2, BLOCK, 2); bias (or null): (outputs,)
   fp32; y: (rows, outputs); `bytes` and `steps` are there for int8.c, whose call is alike. */
void multiply(const uint16_t *x, const uint16_t *weights, const float *bias, uint16_t *y,
              uint8_t *bytes, float *steps, int64_t rows, int64_t inputs, int64_t outputs,
              int64_t threads) {
    (void)bytes, (void)steps;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t n = 0; n < outputs; n += BLOCK) {
        const uint16_t *those = weights + n * inputs;
        const float *add = bias ? bias + n : 0;
        int64_t r = 0;
        for (; r + ROWS <= rows; r += ROWS)
            block(ROWS, x + r * inputs, those, add, y + r * outputs + n, inputs, outputs);
        for (; r + 8 <= rows; r += 8)
            block(8, x + r * inputs, those, add, y + r * outputs + n, inputs, outputs);
        for (; r + 4 <= rows; r += 4)
            block(4, x + r * inputs, those, add, y + r * outputs + n, inputs, outputs);
        for (; r < rows; r++)
            block(1, x + r * inputs, those, add, y + r * outputs + n, inputs, outputs);
    }
}

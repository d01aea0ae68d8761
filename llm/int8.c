/* Products with weights of 8 bits, for llm/products.py: needs instructions that add up four products of
   bytes at once (AVX512 VNNI). Sums are whole numbers, so a row is the same whatever rows are
   computed beside it. */

#include <immintrin.h>

#include "vectors.h"

#ifndef __AVX512VNNI__
#error "this processor cannot add up products of bytes"
#endif

#define BLOCK 32 /* outputs that are worked out at once */
#define ROWS 8   /* rows, too */

/* A row of bf16 as bytes around 128, and what one of their steps is worth. */
static float quantize(const uint16_t *x, uint8_t *to, int64_t inputs) {
    float most = 1e-12f;
    for (int64_t k = 0; k < inputs; k++) {
        const float size = fabsf(widen_bf16(x[k]));
        most = size > most ? size : most;
    }
    const float inverse = 127.0f / most;
    for (int64_t k = 0; k < inputs; k++)
        to[k] = (uint8_t)((int32_t)(widen_bf16(x[k]) * inverse + 128.5f));
    return most / 127.0f;
}

static inline __attribute__((always_inline)) void block(
    const int rows, const uint8_t *x, const int8_t *weights, const float *steps,
    const float *scales, const int32_t *offsets, const float *bias, uint16_t *y, int64_t inputs,
    int64_t outputs) {
    __m512i sums[ROWS][2];
    for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = _mm512_setzero_si512();
    for (int64_t k = 0; k < inputs; k += 4) {
        const __m512i a = _mm512_loadu_si512(weights + k * BLOCK);
        const __m512i b = _mm512_loadu_si512(weights + k * BLOCK + 4 * LANES);
        for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, x + r * inputs + k, 4);
            const __m512i same = _mm512_set1_epi32(four);
            sums[r][0] = _mm512_dpbusd_epi32(sums[r][0], same, a);
            sums[r][1] = _mm512_dpbusd_epi32(sums[r][1], same, b);
        }
    }
    for (int r = 0; r < rows; r++) {
        int32_t sum[BLOCK];
        _mm512_storeu_si512(sum, sums[r][0]);
        _mm512_storeu_si512(sum + LANES, sums[r][1]);
        for (int n = 0; n < BLOCK; n++) {
            const float value = (float)(sum[n] - offsets[n]) * steps[r] * scales[n];
            y[r * outputs + n] = shorten_bf16(bias ? value + bias[n] : value);
        }
    }
}

/* x: (rows, inputs) bf16; weights: (outputs / BLOCK, inputs / 4, BLOCK, 4); scales, offsets (128
   times the sum of an output's weights), bias (or null): (outputs,); y: (rows, outputs) bf16;
   bytes: (rows, inputs) and steps: (rows,) to work in. */
void multiply(const uint16_t *x, const int8_t *weights, const float *scales,
              const int32_t *offsets, const float *bias, uint16_t *y, uint8_t *bytes,
              float *steps, int64_t rows, int64_t inputs, int64_t outputs, int64_t threads) {
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++)
            steps[r] = quantize(x + r * inputs, bytes + r * inputs, inputs);
#pragma omp for schedule(static)
        for (int64_t n = 0; n < outputs; n += BLOCK) {
            const int8_t *those = weights + n * inputs;
            const float *add = bias ? bias + n : 0;
            int64_t r = 0;
            for (; r + ROWS <= rows; r += ROWS)
                block(ROWS, bytes + r * inputs, those, steps + r, scales + n, offsets + n, add,
                      y + r * outputs + n, inputs, outputs);
            for (; r + 2 <= rows; r += 2)
                block(2, bytes + r * inputs, those, steps + r, scales + n, offsets + n, add,
                      y + r * outputs + n, inputs, outputs);
            if (r < rows)
                block(1, bytes + r * inputs, those, steps + r, scales + n, offsets + n, add,
                      y + r * outputs + n, inputs, outputs);
        }
    }
}

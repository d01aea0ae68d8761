/* Cross entropy of rows of logits and its derivative, in one way through them, for llm/loss.py:
   plain C with the vectors of gcc and clang. Logits are in bf16, or with FP32 in fp32. */

#include <omp.h>
#include <stdlib.h>

#include "vectors.h"

#ifdef FP32
typedef float number;
#define LOAD load_floats
#define STORE store_floats
static inline float widen(float x) { return x; }
static inline float shorten(float x) { return x; }
#else
typedef uint16_t number;
#define LOAD load_bf16
#define STORE store_bf16
#define widen widen_bf16
#define shorten shorten_bf16
#endif

/* The last logits of a row, fewer than a vector's, as if followed by some that nobody could choose. */
static inline vector rest_of(const number *from, int64_t count) {
    vector values = {0};
    for (int l = 0; l < LANES; l++) values[l] = l < count ? widen(from[l]) : -1e30f;
    return values;
}

static inline vector larger(vector a, vector b) {
    const whole more = a > b;
    return (vector)((more & (whole)a) | (~more & (whole)b));
}

/* logits: (rows, size), becomes the derivative of counts x (loss + price log^2 Z); chosen, counts:
   (rows,), the target of each and how much it counts; losses, logs: (rows,), -log p and log Z. */
void lose(number *logits, const int64_t *chosen, const float *counts, float *losses, float *logs,
          int64_t rows, int64_t size, int64_t threads, float price) {
    const int64_t even = size / LANES * LANES, left = size - even;
#pragma omp parallel num_threads(threads)
    {
        float *const powers = aligned_alloc(64, (size + LANES) / LANES * LANES * sizeof(float));
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++) {
            number *const row = logits + r * size;
            const float target = widen(row[chosen[r]]);
            vector best = rest_of(row + even, left), total = {0};
            for (int64_t at = 0; at < even; at += LANES) best = larger(LOAD(row + at), best);
            float most = best[0];
            for (int l = 1; l < LANES; l++) most = best[l] > most ? best[l] : most;
            for (int64_t at = 0; at < even; at += LANES) {
                const vector one = power(LOAD(row + at) - most);
                memcpy(powers + at, &one, sizeof one);
                total += one;
            }
            const vector last = power(rest_of(row + even, left) - most);
            memcpy(powers + even, &last, sizeof last);
            const float sum = added_up(left ? total + last : total);
            logs[r] = most + logf(sum);
            losses[r] = logs[r] - target;
            const float times = counts[r] * (1.0f + 2.0f * price * logs[r]) / sum;
            for (int64_t at = 0; at < even; at += LANES)
                STORE(row + at, load_floats(powers + at) * times);
            for (int64_t at = even; at < size; at++) row[at] = shorten(powers[at] * times);
            row[chosen[r]] = shorten(powers[chosen[r]] * times - counts[r]);
        }
        free(powers);
    }
}

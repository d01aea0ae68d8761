/* Vectors of floats as gcc and clang know them, and what they have in common with bf16. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LANES 16

typedef float vector __attribute__((vector_size(4 * LANES)));
typedef int32_t whole __attribute__((vector_size(4 * LANES)));
typedef uint16_t narrow __attribute__((vector_size(2 * LANES)));

static inline float widen_bf16(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static inline uint16_t shorten_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
}

static inline vector load_bf16(const uint16_t *from) {
    narrow short_ones;
    memcpy(&short_ones, from, sizeof short_ones);
    return (vector)(__builtin_convertvector(short_ones, whole) << 16);
}

static inline void store_bf16(uint16_t *to, vector values) {
    const whole bits = (whole)values;
    const whole rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 & 0xFFFF;
    const narrow short_ones = __builtin_convertvector(rounded, narrow);
    memcpy(to, &short_ones, sizeof short_ones);
}

static inline vector load_floats(const float *from) {
    vector all;
    memcpy(&all, from, sizeof all);
    return all;
}

static inline void store_floats(float *to, vector values) { memcpy(to, &values, sizeof values); }

static inline vector counting(void) {
    return (vector){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
}

static inline float added_up(vector values) {
    float sum = 0;
    for (int l = 0; l < LANES; l++) sum += values[l];
    return sum;
}

/* e^x for x <= 0: 2^n times a polynomial for 2^f, |f| <= 1/2, good to 2e-7. */
static inline vector power(vector x) {
    vector t = x * 1.44269504088896341f;
    whole low = t < -126.0f;
    t = (vector)((~low & (whole)t) | (low & (whole)(t * 0 - 126.0f)));
    whole n = __builtin_convertvector(t - 0.5f, whole);
    vector f = t - __builtin_convertvector(n, vector);
    vector p = 1.535336188319500e-4f * f + 1.339887440266574e-3f;
    p = p * f + 9.618437357674640e-3f;
    p = p * f + 5.550332471162809e-2f;
    p = p * f + 2.402264791363012e-1f;
    p = p * f + 6.931472028550421e-1f;
    p = p * f + 1.0f;
    return p * (vector)((n + 127) << 23);
}

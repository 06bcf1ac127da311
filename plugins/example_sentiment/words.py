"""What words weigh."""

WEIGHTS = {
    "excellent": 2.0,
    "love": 2.0,
    "sturdy": 1.0,
    "good": 1.0,
    "fast": 0.5,
    "slow": -0.5,
    "noisy": -1.0,
    "bad": -1.0,
    "broken": -2.0,
    "refund": -2.0,
}
NEGATIONS = {"not", "never", "no", "hardly", "isn't", "wasn't"}

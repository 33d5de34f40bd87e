"""VEC-MNER: two towers that exchange what an attention over tokens leaves of vision (Wei et al. 2024)."""

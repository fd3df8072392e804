"""Virtual boards: programs see device nodes behind which simulated chips answer."""

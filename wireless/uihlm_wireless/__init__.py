"""The radio link: SNR, fading, uplink time, the channel interceptor, the ledger and the energy profiles."""

"""Who is calling, what they may do, how much of it, and the record of it. Knows neither gRPC nor the market."""

"""The gRPC service: identity, codec, errors and life cycle around the market and its journal."""

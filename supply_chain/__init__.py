"""What the engine is made of: a bill of materials, and known advisories against it. Not part of the wheel."""

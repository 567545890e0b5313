"""The business: entries, orders, stock, the steps pick, pack, deliver, the carrier."""

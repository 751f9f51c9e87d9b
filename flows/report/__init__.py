"""What people and scripts get to see."""
